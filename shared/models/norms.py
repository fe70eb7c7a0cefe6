"""Normalisation layers, chosen in one place for all networks."""

from __future__ import annotations

from typing import Literal

from torch import nn

Norm = Literal["group", "instance", "batch"]


def norm3d(kind: Norm, channels: int) -> nn.Module:
    """Return a normalisation layer for `(n, channels, z, y, x)`; group norm also for planes `(n, channels, y, x)`.

    Group norm (Wu and He 2018) is the default. It has no running statistics, which would have to be aggregated over
    sites with different scanners, and it allows the per-sample gradients of differential privacy.
    """
    if kind == "group":
        groups = next(size for size in (8, 4, 2, 1) if channels % size == 0)
        return nn.GroupNorm(groups, channels)
    if kind == "instance":
        return nn.InstanceNorm3d(channels, affine=True)
    return nn.BatchNorm3d(channels)


def to_group_norm(module: nn.Module) -> None:
    """Replace every batch norm by group norm, in place, where MONAI's own argument is missing or ignored."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d | nn.BatchNorm3d):
            setattr(module, name, norm3d("group", child.num_features))
        else:
            to_group_norm(child)
