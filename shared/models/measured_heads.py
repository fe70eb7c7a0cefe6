"""Networks with one logit per label, each plus a linear term in measures of the lesion."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from shared.models.lesion_measures import lesion_measures, measure_count
from shared.models.radiomics import RadiomicsLinear

MEASURED_GAIN = 5.0
"""Factor of the linear term. Adam changes every weight by about the learning rate in each step; at a rate that suits
convolutions, a regression on standardised measures would learn too slowly (docs/experiments.md)."""


class MeasuredHeads(nn.Module):
    """Add a linear term in the lesion's measures to each output `(n, 1)` of a network.

    Parameters
    ----------
    network
        Maps patches to a list of outputs; the first `len(labels)` belong to the labels.
    channels_in
        Image channels of the patch.
    labels
        Labels in the order of the outputs. Parameters of the terms are named `measured.<label>.*`, those of the network
        `network.*`, so that a site without a label can be kept from changing the parameters of that label.

    """

    def __init__(self, network: nn.Module, channels_in: int, labels: Sequence[str]) -> None:
        super().__init__()
        self.network = network
        self.measured = nn.ModuleDict({label: RadiomicsLinear(measure_count(channels_in), 1) for label in labels})

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map patches `(n, channels_in + 1, z, y, x)` to outputs; further outputs of the network are not changed."""
        outputs: list[Tensor] = self.network(x)
        measures = lesion_measures(x)
        terms = [MEASURED_GAIN * term(measures)[0] for term in self.measured.values()]
        return [
            *(output + term for output, term in zip(outputs, terms, strict=False)),
            *outputs[len(terms) :],
        ]
