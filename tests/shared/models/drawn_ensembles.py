"""Small and published ensembles, and patches for them."""

import torch

from shared.models.ensemble_resnet import EnsembleResNet, SubtypeSection

SMALL = {"plane_depth": 10, "plane_width": 4, "volume_depth": 10, "volume_width": 4, "pretrained": "none"}


def small(channels=4, **options):
    torch.manual_seed(0)
    return EnsembleResNet(channels, SubtypeSection(**{**SMALL, **options}))


def published(channels=4, **options):
    return EnsembleResNet(channels, SubtypeSection(**{"size": "published", "pretrained": "none", **options}))


def with_heads(model, seed=0):
    """An ensemble whose heads have a random start: from their own, zero, they say nothing and pass no gradient on."""
    torch.manual_seed(seed)
    for branch in model.branches.values():
        branch.head.reset_parameters()
    return model


def patches(count, *, channels=4, sides=(24, 24, 24), seed=0):
    """Noise over a level near 1, and the distance of a ball in the middle."""
    draw = torch.Generator().manual_seed(seed)
    axes = [torch.arange(side) - 0.5 * (side - 1) for side in sides]
    place = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    distance = (min(sides) / 3 - place.norm(dim=0)).clamp(-20, 20).expand(count, 1, *sides)
    return torch.cat([1 + 0.3 * torch.randn((count, channels, *sides), generator=draw), distance], dim=1)
