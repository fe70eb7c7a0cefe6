"""Lesion patches as the training loop reads them: opened with their targets, weighted by class, turned and mirrored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from shared.cohort.labels import CaseLabels
from shared.config.run_config import RunConfig
from shared.config.sections import AugmentationConfig, PatchSection
from shared.modalities.mri.cache import PreparedMri
from shared.modalities.mri.lesion_patch import keep_patch, open_patch
from shared.modalities.mri.plan import MriPlan
from shared.tasks.augmentation import change_intensity
from shared.types import FloatArray

_HEAVIEST = 5.0  # times an average case: a site's only case of a class must not outvote the others


@dataclass(frozen=True)
class PatchCase:
    """One lesion.

    Attributes
    ----------
    key
        The case's pseudonym.
    folder
        Where its patch is kept.
    target
        Labels as the task's loss reads them, float32; NaN is missing.
    stratum
        Class that balancing counts; empty where there is none.
    weight
        Of the case in the loss.
    labels
        All that the table says of it.

    """

    key: str
    folder: Path
    target: tuple[float, ...]
    stratum: str
    labels: CaseLabels
    weight: float = 1.0

    @cached_property
    def patch(self) -> FloatArray:
        """float32 `(channel + 1, z, y, x)`, read once."""
        return open_patch(self.folder)


C = TypeVar("C", bound=PatchCase)
Target = Callable[[CaseLabels, RunConfig], tuple[tuple[float, ...], str]]
"""A case's target and the class it is balanced by; an empty target leaves the case out."""


def open_patches(cases: Sequence[PreparedMri], plan: MriPlan, config: RunConfig, target: Target) -> list[PatchCase]:
    """Cases that have the task's labels, with their patches cut from the reference outline.

    Raises as `lesion_patch.cut_patch`; a prepared case always has a reference in its breast.
    """
    settings = config.section(PatchSection)
    opened = []
    for case in cases:
        values, stratum = target(case.labels, config)
        if values:
            root = case.region_folder.parent.parent
            folder = keep_patch(root, case.region_folder.name, case.region(), plan, settings.patch)
            opened.append(PatchCase(case.key, folder, values, stratum, case.labels))
    return balanced(opened, settings.balance)


def balanced(cases: Sequence[C], how: str) -> list[C]:
    """Make a site's classes count alike, by weight or by drawing rare ones more often; a single class stays as it is.

    Weights average 1 over the site, so that its loss is comparable with others'. Nothing weighs more than `_HEAVIEST`.
    """
    counts = Counter(case.stratum for case in cases if case.stratum)
    if how == "none" or len(counts) < 2:  # noqa: PLR2004 - one class has nothing to be balanced with
        return list(cases)
    if how == "oversampling":
        most = max(counts.values())
        copies = {name: min(round(most / number), round(_HEAVIEST)) for name, number in counts.items()}
        return [case for case in cases for _ in range(copies.get(case.stratum, 1))]
    share = sum(counts.values()) / len(counts)
    weights = {name: min(share / number, _HEAVIEST) for name, number in counts.items()}
    return [replace(case, weight=weights.get(case.stratum, 1.0)) for case in cases]


def shape(config: RunConfig) -> tuple[int, ...]:
    """Shape of a patch: image channels and the distance to the lesion's surface, then its voxels."""
    return (1 + config.preprocessing.channels, *config.section(PatchSection).patch.voxels)


def sample(case: PatchCase, config: RunConfig, draws: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """The patch, and the target with the case's weight behind it."""
    del config, draws
    return case.patch, np.array([*case.target, case.weight], np.float32)


def augment(patches: Tensor, target: Tensor, config: AugmentationConfig, generator: Generator) -> tuple[Tensor, Tensor]:
    """Turn about a random axis, mirror, scale and shift each patch, then change its intensities.

    Parameters
    ----------
    patches
        float32 `(n, channel + 1, z, y, x)`. The distance stays in mm: a magnified lesion is a larger one only in the
        picture, so `lesion_measures` sees the same size.
    target
        Left as it is.
    config, generator
        Probabilities and the source of every draw.

    """
    theta = torch.stack([_turn(config, generator) for _ in range(len(patches))])
    # Normalised coordinates stretch the axes by the sides: without their ratios a turn would shear what it turns.
    sides = torch.tensor(patches.shape[:1:-1], dtype=theta.dtype)
    theta[:, :, :3] *= sides[None, :] / sides[:, None]
    grid = F.affine_grid(theta, list(patches.shape), align_corners=False)
    moved = F.grid_sample(patches, grid, mode="bilinear", padding_mode="border", align_corners=False)
    images = [change_intensity(item[:-1], config, generator) for item in moved]
    return torch.cat([torch.stack(images), moved[:, -1:]], dim=1), target


def _turn(config: AugmentationConfig, generator: Generator) -> Tensor:
    """A mirroring, a turn about a random axis, a scaling and a shift, `(3, 4)` in `(x, y, z)` of a cube of sides 2."""
    signs = torch.where(torch.rand(3, generator=generator) < config.flip, -1.0, 1.0)
    matrix, shift = torch.diag(signs), torch.zeros(3)
    if bool(torch.rand((), generator=generator) < config.affine):
        axis = F.normalize(torch.randn(3, generator=generator), dim=0)
        angle = np.deg2rad(config.rotation_deg) * (2 * torch.rand((), generator=generator) - 1)
        cross = torch.tensor([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
        # Rodrigues' formula.
        turn = torch.eye(3) + torch.sin(angle) * cross + (1 - torch.cos(angle)) * (cross @ cross)
        scale = 1 + config.scale * (2 * torch.rand((), generator=generator) - 1)
        matrix = matrix @ turn / scale
        shift = 0.16 * (torch.rand(3, generator=generator) - 0.5)
    return torch.cat([matrix, shift[:, None]], dim=1)
