"""Metrics of the masks of one case: overlap, surfaces, lesions, volume, position."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from shared.metrics.intervals import Numbers
from shared.metrics.surface import assd, hd95, nsd, surface_distances
from shared.types import BoolArray

Spacing = tuple[float, float, float]
CUBE = np.ones((3, 3, 3), np.bool_)
"""Connectivity: voxels that share a corner are connected."""


@dataclass(frozen=True, slots=True)
class CaseMetrics:
    """Metrics of one case; `None` if a metric does not exist (see `case_metrics`), never NaN.

    Attributes
    ----------
    dice, nsd, sensitivity, specificity, ppv
        Dice coefficient, normalised surface Dice, and by voxels: share of the reference that is predicted, share of the
        rest of the exam that is not predicted, share of the prediction that is lesion.
    hd95_mm, assd_mm, centroid_distance_mm
        Distances, mm.
    volume_ml, reference_volume_ml
        Predicted and reference volume, ml.
    voxels_tp, voxels_fp, voxels_fn
        Voxel counts.
    lesions_tp, lesions_fp, lesions_fn
        Lesions that are detected, predicted without a counterpart, and missed.

    """

    dice: float
    nsd: float
    sensitivity: float | None
    specificity: float | None
    ppv: float | None
    hd95_mm: float | None
    assd_mm: float | None
    centroid_distance_mm: float | None
    volume_ml: float
    reference_volume_ml: float
    voxels_tp: int
    voxels_fp: int
    voxels_fn: int
    lesions_tp: int
    lesions_fp: int
    lesions_fn: int

    @property
    def failed(self) -> bool:
        """Whether exactly one of the two masks is empty, so that no distance exists."""
        return (self.volume_ml == 0) != (self.reference_volume_ml == 0)

    def to_dict(self) -> dict[str, float | int | None]:
        """Numbers by field, in the order of the fields."""
        return asdict(self)


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
) -> CaseMetrics:
    """Compare a predicted with a reference mask.

    Empty masks are treated by rules that were fixed before, so that no mean is NaN:

    - both empty: Dice and NSD are 1, distances 0; sensitivity and PPV do not exist (`None`);
    - one empty: Dice and NSD are 0, distances `None`, and the case counts as a failure (`CaseMetrics.failed`). Without
      a prediction, sensitivity is 0 and PPV `None`; without a reference, PPV is 0 and sensitivity `None`.

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
    surface_dice, robust, average, apart = surface_figures(prediction, reference, spacing, nsd_tolerance_mm)
    detected, extra, missed = lesion_counts(prediction, reference, lesion_overlap)
    return CaseMetrics(
        dice=dice(prediction, reference),
        nsd=surface_dice,
        sensitivity=tp / true if true else None,
        specificity=1 - (predicted - tp) / rest if (rest := reference.size - true) else None,
        ppv=tp / predicted if predicted else None,
        hd95_mm=robust,
        assd_mm=average,
        centroid_distance_mm=apart,
        volume_ml=predicted * voxel_ml,
        reference_volume_ml=true * voxel_ml,
        voxels_tp=tp,
        voxels_fp=predicted - tp,
        voxels_fn=true - tp,
        lesions_tp=detected,
        lesions_fp=extra,
        lesions_fn=missed,
    )


def surface_figures(
    prediction: BoolArray, reference: BoolArray, spacing: Spacing, tolerance_mm: float
) -> tuple[float, float | None, float | None, float | None]:
    """NSD, HD95, ASSD and centroid distance (mm), for empty masks by the rules of `case_metrics`."""
    some, any_true = bool(prediction.any()), bool(reference.any())
    if not some and not any_true:
        return 1.0, 0.0, 0.0, 0.0
    if not some or not any_true:
        return 0.0, None, None, None
    distances = surface_distances(prediction, reference, spacing)
    step = (_centroid(prediction) - _centroid(reference)) * np.asarray(spacing)
    return nsd(distances, tolerance_mm), hd95(distances), assd(distances), float(np.linalg.norm(step))


def _centroid(mask: BoolArray) -> np.ndarray:
    """Centre of gravity `(z, y, x)`, voxels; marginal sums avoid an index array of the whole volume."""
    total = np.count_nonzero(mask)
    sums = [mask.sum(axis=tuple(other for other in range(3) if other != axis)) for axis in range(3)]
    return np.array([float(item @ np.arange(item.size)) / total for item in sums])


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

    Pieces and lesions are matched one to one with the largest sum of IoU, among pairs with an IoU of at least
    `lesion_overlap`; a prediction that covers two lesions matches one of them.

    Parameters
    ----------
    pieces, number
        Labels from 1 to `number` of the predicted pieces, `(z, y, x)`.
    reference, lesion_overlap
        As in `case_metrics`.

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
