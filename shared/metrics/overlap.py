"""Metrics of the masks of one case, of a lesion or of the breast's structures: overlap, surfaces, volume, density."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from shared.metrics.intervals import Numbers
from shared.metrics.surface import assd, hd95, nsd, surface_distances
from shared.types import STRUCTURES, BoolArray

Spacing = tuple[float, float, float]
CUBE = np.ones((3, 3, 3), np.bool_)
"""Connectivity: voxels that share a corner are connected."""


def dice(prediction: BoolArray, reference: BoolArray) -> float:
    """Dice coefficient of two masks `(z, y, x)`; 1 if both are empty, 0 if one is."""
    total = int(np.count_nonzero(prediction)) + int(np.count_nonzero(reference))
    if total == 0:
        return 1.0
    return 2.0 * int(np.count_nonzero(prediction & reference)) / total


def case_metrics(
    prediction: BoolArray,
    reference: BoolArray,
    spacing: Spacing,
    *,
    nsd_tolerance_mm: float,
    lesion_overlap: float,
    exam_voxels: int | None = None,
    start: tuple[int, int, int] = (0, 0, 0),
) -> dict[str, float | None]:
    """Columns of one case: Dice, NSD, ratios of voxels, distances in mm, volumes in ml, counts of voxels and lesions.

    `specificity` is the share of the exam outside the reference that is not predicted; `failed` is 1 if exactly one of
    the two masks is empty.

    Empty masks are treated by rules that were fixed before, so that no mean is NaN:

    - both empty: Dice and NSD are 1, distances 0; sensitivity and PPV do not exist (`None`);
    - one empty: Dice and NSD are 0, distances `None`, and the case counts as a failure. Without a prediction,
      sensitivity is 0 and PPV `None`; without a reference, PPV is 0 and sensitivity `None`.

    A `None` is left out of a mean, whose number of cases is stated together with the number of failures. A substitute
    distance, such as the diagonal of the volume, would measure the field of view.

    Parameters
    ----------
    prediction, reference
        Boolean `(z, y, x)` on one grid.
    spacing
        `(z, y, x)`, mm.
    nsd_tolerance_mm
        Tolerance of the normalised surface Dice, mm; set before results are seen.
    lesion_overlap
        IoU at which a predicted lesion counts as detected, above 0 to 1.
    exam_voxels, start
        Where the masks are a part of the exam, outside which both are empty: the exam's voxels, and the part's first
        one `(z, y, x)`. The figures are those of the whole exam, to the bit.

    Raises
    ------
    ValueError
        The shapes differ.

    """
    if prediction.shape != reference.shape:
        raise ValueError(f"masks of shapes {prediction.shape} and {reference.shape} are not on one grid")
    voxel_ml = float(np.prod(spacing)) / 1000.0
    tp = int(np.count_nonzero(prediction & reference))
    predicted, true = int(np.count_nonzero(prediction)), int(np.count_nonzero(reference))
    surface_dice, robust, average, apart = surface_figures(prediction, reference, spacing, nsd_tolerance_mm, start)
    detected, extra, missed = lesion_counts(prediction, reference, lesion_overlap)
    return {
        "dice": dice(prediction, reference),
        "nsd": surface_dice,
        "sensitivity": tp / true if true else None,
        "specificity": 1 - (predicted - tp) / rest if (rest := (exam_voxels or reference.size) - true) else None,
        "ppv": tp / predicted if predicted else None,
        "hd95_mm": robust,
        "assd_mm": average,
        "centroid_distance_mm": apart,
        "volume_ml": predicted * voxel_ml,
        "reference_volume_ml": true * voxel_ml,
        "voxels_tp": tp,
        "voxels_fp": predicted - tp,
        "voxels_fn": true - tp,
        "lesions_tp": detected,
        "lesions_fp": extra,
        "lesions_fn": missed,
        "failed": float(bool(predicted) != bool(true)),
    }


def structure_metrics(
    prediction: BoolArray, reference: BoolArray, spacing: Spacing, *, nsd_tolerance_mm: float | None
) -> dict[str, float | None]:
    """Columns of one case by structure: `dice_*`, `hd95_mm_*`, `nsd_*`, `volume_ml_*`, `reference_volume_ml_*`.

    `density_percent` and `reference_density_percent` follow: fibroglandular volume over breast volume, `None` without a
    breast. Empty masks are treated as in `case_metrics`.

    Parameters
    ----------
    prediction, reference
        Boolean `(structure, z, y, x)` on one grid, in the order of `STRUCTURES`.
    spacing
        `(z, y, x)`, mm.
    nsd_tolerance_mm
        Tolerance of the normalised surface Dice, mm; None omits surface metrics, as that of a breast takes seconds on
        a fine grid.

    Raises
    ------
    ValueError
        The shapes differ, or there is not one mask for each structure.

    """
    if prediction.shape != reference.shape or len(prediction) != len(STRUCTURES):
        raise ValueError(f"masks of shapes {prediction.shape} and {reference.shape} are not {len(STRUCTURES)} pairs")
    voxel_ml = float(np.prod(spacing)) / 1000.0
    row: dict[str, float | None] = {}
    for structure, mine, theirs in zip(STRUCTURES, prediction, reference, strict=True):
        if nsd_tolerance_mm is not None:
            surface_dice, robust, _, _ = surface_figures(mine, theirs, spacing, nsd_tolerance_mm)
            row |= {f"hd95_mm_{structure}": robust, f"nsd_{structure}": surface_dice}
        row |= {
            f"dice_{structure}": dice(mine, theirs),
            f"volume_ml_{structure}": int(np.count_nonzero(mine)) * voxel_ml,
            f"reference_volume_ml_{structure}": int(np.count_nonzero(theirs)) * voxel_ml,
        }
    for prefix, masks in (("", prediction), ("reference_", reference)):
        breast, fibroglandular = (int(np.count_nonzero(mask)) for mask in masks)
        row[f"{prefix}density_percent"] = 100.0 * fibroglandular / breast if breast else None
    return row


def surface_figures(
    prediction: BoolArray,
    reference: BoolArray,
    spacing: Spacing,
    tolerance_mm: float,
    start: tuple[int, int, int] = (0, 0, 0),
) -> tuple[float, float | None, float | None, float | None]:
    """NSD, HD95, ASSD and centroid distance (mm), for empty masks and `start` by the rules of `case_metrics`."""
    some, any_true = bool(prediction.any()), bool(reference.any())
    if not some and not any_true:
        return 1.0, 0.0, 0.0, 0.0
    if not some or not any_true:
        return 0.0, None, None, None
    distances = surface_distances(prediction, reference, spacing)
    step = (_centroid(prediction, start) - _centroid(reference, start)) * np.asarray(spacing)
    return nsd(distances, tolerance_mm), hd95(distances), assd(distances), float(np.linalg.norm(step))


def _centroid(mask: BoolArray, start: tuple[int, int, int]) -> np.ndarray:
    """Centre of gravity `(z, y, x)`, voxels of the exam's grid; marginal sums avoid an index array of the volume."""
    total = np.count_nonzero(mask)
    sums = [mask.sum(axis=tuple(other for other in range(3) if other != axis)) for axis in range(3)]
    places = [np.arange(first, first + item.size) for first, item in zip(start, sums, strict=True)]
    return np.array([float(item @ place) / total for item, place in zip(sums, places, strict=True)])


def lesion_counts(prediction: BoolArray, reference: BoolArray, lesion_overlap: float) -> tuple[int, int, int]:
    """Numbers of detected, extra and missed lesions: 26-connected pieces, matched by `matches`."""
    pieces, number = ndimage.label(prediction, CUBE)
    matched, lesions = matches(pieces, number, reference, lesion_overlap)
    hits = int(np.count_nonzero(matched))
    return hits, number - hits, lesions - hits


def matches(
    pieces: npt.NDArray[np.signedinteger[Any]], number: int, reference: BoolArray, lesion_overlap: float
) -> tuple[npt.NDArray[np.bool_], int]:
    """Which predicted pieces match a lesion, `(number,)`, and the number of lesions in the reference.

    The predicted `pieces` `(z, y, x)` are labels from 1 to `number`. They and the lesions are matched one to one with
    the largest sum of IoU, among pairs with an IoU of at least `lesion_overlap`; a prediction that covers two lesions
    matches one of them.
    """
    theirs, lesions = ndimage.label(reference, CUBE)
    matched = np.zeros(number, np.bool_)
    if not number or not lesions:
        return matched, int(lesions)
    width = number + 1
    touched = (pieces > 0) | reference
    # A histogram of pairs of labels holds all intersections.
    pairs = np.bincount(theirs[touched] * width + pieces[touched], minlength=(lesions + 1) * width)
    table = pairs.reshape(lesions + 1, width)
    shared = table[1:, 1:]
    union = table[1:].sum(axis=1)[:, None] + table[:, 1:].sum(axis=0)[None] - shared
    iou = shared / union
    allowed = np.where(iou >= lesion_overlap, iou, 0.0)
    rows, columns = linear_sum_assignment(allowed, maximize=True)
    matched[columns[allowed[rows, columns] > 0]] = True
    return matched, int(lesions)


def pooled_f1(values: Numbers, weights: Numbers) -> Numbers:
    """Statistic: lesion-wise F1 from columns of detected, extra and missed lesions."""
    hits, extra, missed = (weights @ values[:, index] for index in range(3))
    result: Numbers = 2 * hits / (2 * hits + extra + missed)
    return result
