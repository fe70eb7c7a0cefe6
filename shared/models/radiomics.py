"""Linear model on radiomic features: multinomial logistic regression that standardises its features itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn

CLIP = 5.0
"""Bound of standardised values: a single extreme feature must not decide the result."""

CONSTANT = 1e-4
"""A feature counts as constant if its standard deviation is below this share of its mean, which is rounding."""

_TINY = 1e-12  # variance of a feature that is zero everywhere


class RadiomicsLinear(nn.Module):
    """Logits that are linear in standardised, clipped features.

    Parameters
    ----------
    features
        Number of features per case.
    classes
        Number of logits.

    Notes
    -----
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
