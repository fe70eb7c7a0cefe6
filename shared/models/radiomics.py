"""Linear model on radiomic features, which standardises them itself, and networks with such a model beside them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from shared.models.lesion_measures import lesion_measures, measure_count

CLIP = 5.0
"""Bound of standardised values: a single extreme feature must not decide the result."""

CONSTANT = 1e-4
"""A feature counts as constant if its standard deviation is below this share of its mean, which is rounding."""

MEASURED_GAIN = 5.0
"""Factor of the linear term. Adam changes every weight by about the learning rate in each step; at a rate that suits
convolutions, a regression on standardised measures would learn too slowly (docs/experiments.md)."""

_TINY = 1e-12  # variance of a feature that is zero everywhere


class RadiomicsLinear(nn.Module):
    """Logits that are linear in standardised, clipped features.

    Mean and variance are buffers. In training, each batch first updates their cumulative average (like `BatchNorm1d`
    with `momentum=None`) and is then standardised with the buffers instead of its own statistics. So a case has the
    same value in every batch, and training and evaluation use the same model.

    When sites are aggregated, the mean becomes the weighted mean of the federation and the variance the mean variance
    within a site. The variance between the means of the sites is not included: features that differ more between
    scanners than between patients exceed one in size, which the clipping bounds.

    All state is float32, also the counter, so one flat array holds it and its average needs no rounding. Weights start
    at zero. The L2 penalty is the weight decay of the optimiser.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))
        self.register_buffer("num_batches_tracked", torch.zeros(()))
        self.linear = nn.Linear(features, classes)
        # The loss is convex, so no random start is needed.
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map features `(n, features)` in their own units to one tensor of logits `(n, classes)`.

        Raises
        ------
        ValueError
            A training batch has one case, which has no variance.

        """
        if self.training:
            self._update_statistics(x.detach())
        logits: Tensor = self.linear(self.standardise(x))
        return [logits]

    def standardise(self, x: Tensor) -> Tensor:
        """Subtract the mean from features `(n, features)`, divide by the standard deviation, clip to +-`CLIP`."""
        # Noise added for privacy can make an aggregated variance negative.
        variance = self.running_var.clamp(min=0.0) + (CONSTANT * self.running_mean).square() + _TINY
        return ((x - self.running_mean) * variance.rsqrt()).clamp(-CLIP, CLIP)

    @torch.no_grad()
    def _update_statistics(self, batch: Tensor) -> None:
        if len(batch) < 2:  # noqa: PLR2004 - one value has no variance
            raise ValueError("a training batch of one case has no variance: use a batch_size of at least 2")
        self.num_batches_tracked += 1
        share = 1.0 / self.num_batches_tracked
        self.running_mean += share * (batch.mean(dim=0) - self.running_mean)
        self.running_var += share * (batch.var(dim=0) - self.running_var)


class MeasuredHeads(nn.Module):
    """Add a linear term in the lesion's measures to each output `(n, 1)` of a network, unless `measured` is false.

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

    def __init__(self, network: nn.Module, channels_in: int, labels: Sequence[str], *, measured: bool = True) -> None:
        super().__init__()
        self.network = network
        self.measured = nn.ModuleDict()
        if measured:
            self.measured.update({label: RadiomicsLinear(measure_count(channels_in), 1) for label in labels})

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map patches `(n, channels_in + 1, z, y, x)` to outputs; further outputs of the network are not changed."""
        outputs: list[Tensor] = self.network(x)
        if not self.measured:
            return outputs
        measures = lesion_measures(x)
        terms = [MEASURED_GAIN * term(measures)[0] for term in self.measured.values()]
        return [
            *(output + term for output, term in zip(outputs, terms, strict=False)),
            *outputs[len(terms) :],
        ]
