"""How the subtype ensemble is explained: SmoothGrad of a case's subtype for each branch, in shells of the lesion."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import nn

from shared.cohort.labels import SUBTYPES
from shared.config.run_config import RunConfig
from shared.config.sections import PatchSection
from shared.modalities.mri.cache import PreparedMri
from shared.modalities.mri.lesion_patch import cut_patch
from shared.modalities.mri.plan import MriPlan
from shared.models.ensemble_resnet import BRANCHES, PLANES
from shared.reproducibility import derive_seed
from shared.saliency import log_odds, region_means, saliencies
from shared.tasks.explanation import Figure
from shared.types import FloatArray

ENSEMBLE = "ensemble"
READERS = (ENSEMBLE, *BRANCHES)


def saliency_maps(
    model: nn.Module, patch: FloatArray, subtype: str, *, samples: int = 8, seed: int = 0
) -> dict[str, FloatArray]:
    """Maps of the log odds of a subtype for each of `READERS`, float32 `(z, y, x)`; see `shared.saliency`."""
    label = SUBTYPES.index(subtype)
    scores = {ENSEMBLE: log_odds(label)} | {name: log_odds(label, index) for index, name in enumerate(BRANCHES)}
    return saliencies(model, patch, scores, samples=samples, seed=seed)


def figures(model: nn.Module, case: PreparedMri, plan: MriPlan, config: RunConfig, subtype: str) -> list[Figure]:
    """Mean saliency a voxel over that in all that is looked at, for each of `READERS` and `REGIONS`.

    The volume branch is looked at in the whole patch, a plane's branch in its middle plane: 1 is no preference. The
    ensemble is looked at in the whole patch too, but its planes cross in the lesion: compare its subtypes, not its
    regions. A case's noise does not depend on which others are explained. Half a second with the quick ensemble on one
    core. `StudyError` as `lesion_patch.cut_patch`.
    """
    patch = _patch(case, plan, config)
    maps = saliency_maps(model, patch, subtype, seed=derive_seed(0, "saliency", case.key))
    return [
        (reader, region, value)
        for reader, saliency in maps.items()
        for region, value in region_means(_seen(reader, saliency), _seen(reader, patch[-1])).items()
    ]


def picture(
    model: nn.Module, start: nn.Module, case: PreparedMri, plan: MriPlan, config: RunConfig, subtype: str
) -> Mapping[str, np.ndarray]:
    """The case's patch, float16 `(channel + 1, z, y, x)`, and the ensemble's map, float32 `(z, y, x)`."""
    del start  # its figures stand beside the trained network's; its map is not drawn
    patch = _patch(case, plan, config)
    saliency = saliency_maps(model, patch, subtype)[ENSEMBLE]
    return {"patch": patch.astype(np.float16), "saliency": saliency.astype(np.float32)}


def _patch(case: PreparedMri, plan: MriPlan, config: RunConfig) -> FloatArray:
    return cut_patch(case.region(), case.native_mask, plan, config.section(PatchSection).patch)


def _seen(reader: str, field: FloatArray) -> FloatArray:
    """The part of a patch's `(z, y, x)` in which a reader can have a preference.

    Of a plane's branch the middle plane: over the whole patch the lesion would win by where the planes lie.
    """
    if reader not in PLANES:
        return field
    axis = PLANES.index(reader)
    return np.take(field, [field.shape[axis] // 2], axis=axis)
