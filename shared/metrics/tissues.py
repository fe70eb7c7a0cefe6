"""Breast and fibroglandular tissue of one case: overlap, volume, density; and the sums of them that leave a site.

Density is the fibroglandular volume over the breast's, in percent, from the masks themselves: what is between skin and
chest wall inside the breast's box.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from shared.metrics.overlap import Spacing, dice, surface_figures
from shared.metrics.sums import NOTHING, Moments, flat_sums, read_sums
from shared.types import STRUCTURES, BoolArray

Pair = tuple[float, float]
"""A figure of each structure, in the order of `STRUCTURES`."""


@dataclass(frozen=True, slots=True)
class TissueMetrics:
    """One case's outlines of both structures.

    Attributes
    ----------
    dice
        0 to 1; 1 when both masks are empty, 0 when one is.
    volume_ml, reference_volume_ml
        Predicted and reference volume, ml.

    """

    dice: Pair
    volume_ml: Pair
    reference_volume_ml: Pair

    @property
    def density_percent(self) -> float | None:
        """Predicted density, percent; `None` where no breast was predicted."""
        return _density(self.volume_ml)

    @property
    def reference_density_percent(self) -> float | None:
        """The reference's density, percent; `None` where it marks no breast."""
        return _density(self.reference_volume_ml)

    @property
    def density_error(self) -> float | None:
        """Predicted minus reference density, percentage points; `None` where either does not exist."""
        predicted, reference = self.density_percent, self.reference_density_percent
        return None if predicted is None or reference is None else predicted - reference

    def to_dict(self) -> dict[str, float | None]:
        """Plain numbers: each field by structure (`dice_breast`, ...), and both densities."""
        flat: dict[str, float | None] = {
            f"{item.name}_{structure}": value
            for item in fields(self)
            for structure, value in zip(STRUCTURES, getattr(self, item.name), strict=True)
        }
        return flat | {
            "density_percent": self.density_percent,
            "reference_density_percent": self.reference_density_percent,
        }


def tissue_metrics(prediction: BoolArray, reference: BoolArray, spacing: Spacing) -> TissueMetrics:
    """Compare predicted with reference masks.

    Parameters
    ----------
    prediction, reference
        bool `(structure, z, y, x)` on one grid, in the order of `STRUCTURES`.
    spacing
        `(z, y, x)`, mm.

    Raises
    ------
    ValueError
        The shapes differ, or there is not a mask a structure.

    """
    _check(prediction, reference)
    voxel_ml = float(np.prod(spacing)) / 1000.0

    def volumes(masks: BoolArray) -> Pair:
        breast, fibroglandular = (int(np.count_nonzero(mask)) * voxel_ml for mask in masks)
        return breast, fibroglandular

    breast, fibroglandular = (dice(mine, theirs) for mine, theirs in zip(prediction, reference, strict=True))
    return TissueMetrics((breast, fibroglandular), volumes(prediction), volumes(reference))


def tissue_surfaces(
    prediction: BoolArray, reference: BoolArray, spacing: Spacing, *, nsd_tolerance_mm: float
) -> dict[str, float | None]:
    """`hd95_mm_<structure>` and `nsd_<structure>`; parameters as `tissue_metrics`, empty masks as `case_metrics`.

    Apart from the overlap, which is counted in no time: a breast's surface takes seconds on a fine grid.
    """
    _check(prediction, reference)
    found: dict[str, float | None] = {}
    for structure, mine, theirs in zip(STRUCTURES, prediction, reference, strict=True):
        share, robust, _, _ = surface_figures(mine, theirs, spacing, nsd_tolerance_mm)
        found |= {f"hd95_mm_{structure}": robust, f"nsd_{structure}": share}
    return found


@dataclass(frozen=True, slots=True)
class TissueSums:
    """Mergeable sums over cases with outlined tissues; `TissueSums()` is zero, `+` merges sites.

    Attributes
    ----------
    n
        Cases.
    dice_breast, dice_fibroglandular
        Moments of each structure's Dice.
    density_error, density_absolute
        Moments of predicted minus reference density, and of its size, percentage points.

    """

    n: int = 0
    dice_breast: Moments = NOTHING
    dice_fibroglandular: Moments = NOTHING
    density_error: Moments = NOTHING
    density_absolute: Moments = NOTHING

    @classmethod
    def of(cls, case: TissueMetrics) -> TissueSums:
        """Sums of one case."""
        error = case.density_error
        return cls(
            n=1,
            dice_breast=Moments.of(case.dice[0]),
            dice_fibroglandular=Moments.of(case.dice[1]),
            density_error=Moments.of(error),
            density_absolute=Moments.of(None if error is None else abs(error)),
        )

    def __add__(self, other: TissueSums) -> TissueSums:
        return TissueSums(**{item.name: getattr(self, item.name) + getattr(other, item.name) for item in fields(self)})

    @property
    def score(self) -> float | None:
        """What chooses the round, larger is better: the mean of both structures' mean Dice."""
        breast, fibroglandular = self.dice_breast.mean, self.dice_fibroglandular.mean
        return None if breast is None or fibroglandular is None else (breast + fibroglandular) / 2

    def to_dict(self) -> dict[str, float]:
        """Flat numbers, fit for a message: `n`, `dice_breast.n`, `dice_breast.total`, ..."""
        return flat_sums(self)

    @classmethod
    def from_dict(cls, flat: Mapping[str, float]) -> TissueSums:
        """Inverse of `to_dict`.

        Raises
        ------
        ValueError
            A name is missing or unknown, a value is not finite, a count is negative, not whole, or contradicts another.

        """
        found = cls(**read_sums(cls(), flat, "tissue sums"))
        whole = {found.n, found.dice_breast.n, found.dice_fibroglandular.n}
        if len(whole) > 1 or not found.density_error.n == found.density_absolute.n <= found.n:
            raise ValueError("tissue sums: 'n' contradicts the figures' counts")
        return found


def _density(volumes_ml: Pair) -> float | None:
    breast, fibroglandular = volumes_ml
    return 100.0 * fibroglandular / breast if breast else None


def _check(prediction: BoolArray, reference: BoolArray) -> None:
    if prediction.shape != reference.shape or len(prediction) != len(STRUCTURES):
        raise ValueError(f"masks of shapes {prediction.shape} and {reference.shape} are not {len(STRUCTURES)} pairs")
