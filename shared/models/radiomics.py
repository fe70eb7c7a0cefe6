"""The federated linear model on radiomic features: multinomial logistic regression that carries its own scaling."""

from __future__ import annotations

import torch
from torch import Tensor, nn

CLIP = 5.0
"""Standardised values end here: a lesion unlike any other at the sites must not decide by one feature."""

CONSTANT = 1e-4
"""A feature that spreads by less than this share of its mean counts as constant: the rest is rounding."""

_TINY = 1e-12  # variance of a feature that is zero everywhere


class RadiomicsLinear(nn.Module):
    """Logits that are linear in standardised, clipped features.

    Parameters
    ----------
    features
        Number of features a case.
    classes
        Number of logits.

    Notes
    -----
    Mean and variance are buffers. In training mode each batch first enters their cumulative average (the rule of
    `BatchNorm1d` with `momentum=None`), then is standardised with the buffers, not with itself: the same case gets the
    same value in every batch, and training and evaluation see one model.

    Averaged over sites like weights, the mean is the federation's mean (weighted as the sites are), and the variance is
    the mean variance within a site. The variance between sites' means is left out: features that differ by scanner more
    than by patient come out larger than one, which the clip bounds.

    All state is float32, the counter too, so that one flat array carries it and an average over sites with different
    numbers of steps needs no rounding. The weights start at zero. The L2 penalty is the caller's weight decay.

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
        # The loss is convex: from zero there is nothing to draw and nothing for a seed to change.
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Features `(n, features)` in their own units to one tensor of logits `(n, classes)`.

        Raises
        ------
        ValueError
            A training batch of one case: it has no variance.

        """
        if self.training:
            self._count(x.detach())
        logits: Tensor = self.linear(self.standardised(x))
        return [logits]

    def standardised(self, x: Tensor) -> Tensor:
        """Features `(n, features)` less their mean, over their standard deviation, cut to plus or minus `CLIP`."""
        # Noise added for privacy may make an averaged variance negative.
        variance = self.running_var.clamp(min=0.0) + (CONSTANT * self.running_mean).square() + _TINY
        return ((x - self.running_mean) * variance.rsqrt()).clamp(-CLIP, CLIP)

    @torch.no_grad()
    def _count(self, batch: Tensor) -> None:
        if len(batch) < 2:  # noqa: PLR2004 - one value has no variance
            raise ValueError("a training batch of one case has no variance: use a batch_size of at least 2")
        self.num_batches_tracked += 1
        share = 1.0 / self.num_batches_tracked
        self.running_mean += share * (batch.mean(dim=0) - self.running_mean)
        self.running_var += share * (batch.var(dim=0) - self.running_var)
