"""Invented cases of the subtype ensemble as the cache gives them, and a network whose look is known."""

from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from shared.cohort.labels import CaseLabels
from shared.config.run_config import parse_config
from shared.modalities.mri.plan import Extraction, MriPlan
from shared.modalities.mri.region import BreastRegion
from shared.types import Grid

SHAPE = (24, 24, 24)
PLAN = MriPlan(
    mode="whole_breast",
    spacing_mm=(2.0, 2.0, 2.0),
    crop_voxels=(16, 16, 16),
    least_voxels=(16, 16, 16),
    low=(-9.0,) * 3,
    high=(9.0,) * 3,
    scale=(0.7, 0.3, 0.3),
    extraction=Extraction(post_phases=2, n4=False, n4_shrink=4, n4_iterations=(1,)),
)


def view(task="subtype-ensemble", side=16):
    small = {"plane_depth": 10, "plane_width": 4, "volume_depth": 10, "volume_width": 4, "pretrained": "none",
             "patch": {"voxels": [side, side, side], "over_lesion": 2.5}}  # fmt: skip
    raw = {"name": "t", "tasks": [task], "subtype_rule": "as-given", "subtype_ensemble": small,
           "data": {"root": "d", "sites": ["a", "b"]}, "preprocessing": {"post_phases": 2}}  # fmt: skip
    return parse_config(raw, "test").for_task(task)


def case(number, subtype, radius=8.0):
    """A case as the cache gives it: a ball of noise, 2 mm voxels; its key's patient is its number."""
    axes = np.meshgrid(*((np.arange(size) - (size - 1) / 2) * 2.0 for size in SHAPE), indexing="ij")
    mask = np.sqrt(sum(axis**2 for axis in axes)) <= radius
    phases = np.random.default_rng(number).random((3, *SHAPE)).astype(np.float16) + np.float16(1)
    grid = Grid(SHAPE, (2.0, 2.0, 2.0))
    region = BreastRegion(phases, np.ones(SHAPE, bool), mask, grid, (0, 0, 0), "right")
    return SimpleNamespace(
        key=f"d-p{number:02d}-e-R", labels=CaseLabels(subtype=subtype), region=lambda: region, native_mask=mask
    )


class Looking(nn.Module):
    """Four branches: triple negative is the first image channel where `look` says, luminal B is it everywhere."""

    def __init__(self, look):
        super().__init__()
        self.look = look

    def forward(self, x):
        seen = (x[:, 0] * self.look(x[:, -1])).flatten(1).mean(dim=1)
        rest = x[:, 0].flatten(1).mean(dim=1)
        logits = torch.stack([0 * rest, rest, 0 * rest, 1000 * seen], dim=1)
        return [logits] * 4
