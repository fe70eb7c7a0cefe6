"""How figures are named, rounded and explained on the page."""

from __future__ import annotations

import math

from server.run_folder.results import ResultRow
from shared.config.sections import EvaluationConfig

_NAMES = {
    "dice": "Dice",
    "hd95": "HD95",
    "assd": "ASSD",
    "nsd": "NSD",
    "sensitivity": "Sensitivity",
    "ppv": "PPV",
    "lesion_f1": "Lesion-wise F1",
    "volume_icc_a1": "Volume ICC(A,1)",
    "volume_bias": "Volume bias",
    "volume_limit_low": "Lower limit of agreement",
    "volume_limit_high": "Upper limit of agreement",
    "volume_ratio_bias": "Volume ratio",
    "volume_ratio_limit_low": "Lower limit, ratio",
    "volume_ratio_limit_high": "Upper limit, ratio",
    "centroid_distance": "Centroid distance",
    "dice_breast": "Dice, breast",
    "nsd_breast": "NSD, breast",
    "hd95_breast": "HD95, breast",
    "dice_fibroglandular": "Dice, fibroglandular tissue",
    "nsd_fibroglandular": "NSD, fibroglandular tissue",
    "hd95_fibroglandular": "HD95, fibroglandular tissue",
    "mae_density": "Mean absolute error of density",
    "mae_density_of_mean": "The same, of the mean alone",
    "bias_density": "Bias of density",
    "limit_low_density": "Lower limit of agreement",
    "limit_high_density": "Upper limit of agreement",
    "icc_a1_density": "ICC(A,1) of density",
    "failure_share": "Share of failures",
    "failures": "Failures",
    "no_overlap": "Without overlap",
}
DASH = "\N{EN DASH}"
_DIGITS = {"mm": 1, "ml": 2, "%": 1, "cases": 0}


def label(row: ResultRow) -> str:
    """Name of a figure as the literature writes it."""
    return _NAMES.get(row.metric, row.metric.replace("_", " "))


def unit(row: ResultRow) -> str:
    """Unit as shown; shares have none."""
    return "" if row.unit == "1" else row.unit


def value(row: ResultRow) -> str:
    """The figure, rounded for its unit; a dash where it does not exist."""
    return fixed(row.value, _DIGITS.get(row.unit, 3))


def interval(row: ResultRow) -> str:
    """Both bounds, rounded like the figure; a dash where there is no interval."""
    if row.ci_low is None or row.ci_high is None:
        return DASH
    digits = _DIGITS.get(row.unit, 3)
    return f"{fixed(row.ci_low, digits)} to {fixed(row.ci_high, digits)}"


def fixed(number: float | None, digits: int) -> str:
    """A number with fixed decimals and a true minus sign; a dash for what does not exist."""
    if number is None or math.isnan(number):
        return DASH
    text = f"{number:.{digits}f}"
    if float(text) == 0:
        text = text.removeprefix("-")
    return text.replace("-", "\N{MINUS SIGN}")


def meanings(config: EvaluationConfig) -> dict[str, str]:
    """What each figure is, with this run's settings."""
    tolerance, overlap = f"{config.nsd_tolerance_mm:g} mm", f"{config.lesion_overlap:g}"
    return {
        "dice": "Overlap of outline and reference, 0 to 1, mean over cases. Nothing predicted counts as 0.",
        "hd95": "Larger of the two directed 95th percentiles of surface distance; not defined for failures.",
        "assd": "Average symmetric surface distance; not defined for failures.",
        "nsd": f"Share of both surfaces within {tolerance} of the other.",
        "sensitivity": "Share of the reference's voxels found, mean over cases.",
        "ppv": "Share of predicted voxels that are lesion; not defined where nothing was predicted.",
        "lesion_f1": f"Connected lesions, found from an overlap (IoU) of {overlap} on; all cases' lesions together.",
        "volume_icc_a1": "Absolute agreement of predicted and reference volume, failures as 0 ml.",
        "volume_bias": "Mean of predicted minus reference volume.",
        "volume_limit_low": "95% limits of agreement of the difference (Bland and Altman).",
        "volume_limit_high": "95% limits of agreement of the difference (Bland and Altman).",
        "volume_ratio_bias": "Geometric mean of predicted / reference, as the spread grows with size.",
        "volume_ratio_limit_low": "95% limits of agreement of the ratio.",
        "volume_ratio_limit_high": "95% limits of agreement of the ratio.",
        "centroid_distance": "Between the centres of gravity; not defined for failures.",
        "failure_share": "Cases in which exactly one of outline and reference is empty.",
        "failures": "The same as a count.",
        "no_overlap": "Cases with a Dice of 0, failures included.",
        "mae_density": "Mean size of the difference, percentage points.",
        "mae_density_of_mean": "Error of always answering the mean density of these very cases: the floor to beat.",
        "bias_density": "Mean of predicted minus reference density, percentage points.",
        "limit_low_density": "95% limits of agreement of the difference (Bland and Altman).",
        "limit_high_density": "95% limits of agreement of the difference (Bland and Altman).",
        "icc_a1_density": "Absolute agreement of predicted and reference density.",
    }
