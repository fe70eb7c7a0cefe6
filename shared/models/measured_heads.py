"""Networks with one logit a label, each with a linear term in what is measured of the lesion beside it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from shared.models.lesion_measures import lesion_measures, measure_count
from shared.models.radiomics import RadiomicsLinear

MEASURED_GAIN = 5.0
"""Of the linear term. Adam moves every weight by about the learning rate a step: at the rate that convolutions bear, a
regression on standardised measures learns too slowly (docs/experiments.md)."""


class MeasuredHeads(nn.Module):
    """A network's outputs `(n, 1)` plus a linear term each.

    Parameters
    ----------
    network
        From patches to a list of outputs, of which the first `len(labels)` are the labels'.
    channels_in
        Image channels of the patch.
    labels
        In the order of the outputs. The terms' parameters are named `measured.<label>.*`, the network's `network.*`, so
        that sites without a label can be kept from moving what answers for it.

    """

    def __init__(self, network: nn.Module, channels_in: int, labels: Sequence[str]) -> None:
        super().__init__()
        self.network = network
        self.measured = nn.ModuleDict({label: RadiomicsLinear(measure_count(channels_in), 1) for label in labels})

    def forward(self, x: Tensor) -> list[Tensor]:
        """Patches `(n, channels_in + 1, z, y, x)` to outputs; those of the network beyond the labels pass unchanged."""
        outputs: list[Tensor] = self.network(x)
        measures = lesion_measures(x)
        terms = [MEASURED_GAIN * term(measures)[0] for term in self.measured.values()]
        return [
            *(output + term for output, term in zip(outputs, terms, strict=False)),
            *outputs[len(terms) :],
        ]
