"""Hand-made features of a lesion patch: the rival that every subtype network has to beat.

Definitions are those of the Image Biomarker Standardisation Initiative (Zwanenburg et al., Radiology
2020;295(2):328-38) as PyRadiomics computes them (van Griethuysen et al., Cancer Res 2017;77(21):e104-7), with its two
deviations: bins start at multiples of the bin width, not at the lesion's minimum, and kurtosis is not lessened by 3.
Added are what readers name (BI-RADS 2013): rim enhancement, a border that stands out, and foci.
"""

from __future__ import annotations

import logging
import warnings
from importlib.util import find_spec
from typing import Any

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from shared.errors import ConfigError, StudyError
from shared.types import BoolArray, FloatArray

BIN_WIDTH = 0.125
"""Width of a grey level in the channels' own units (scaled near 1). A power of two: every edge is an exact float."""

BOUND = 10.0
"""Values are cut to plus or minus this: one bright artefact would ask for a matrix of a million grey levels."""

RIM_MM = 4.0
"""The rim is this much below the surface, the core what lies deeper."""

SURROUNDINGS_MM = 6.0
"""The surroundings are this much outside the surface, whatever tissue lies there."""

SHAPE = (
    "MeshVolume",
    "SurfaceArea",
    "SurfaceVolumeRatio",
    "Sphericity",
    "Maximum3DDiameter",
    "MajorAxisLength",
    "MinorAxisLength",
    "LeastAxisLength",
    "Elongation",
    "Flatness",
)
FIRST_ORDER = (
    "Mean",
    "Median",
    "10Percentile",
    "90Percentile",
    "InterquartileRange",
    "Range",
    "Variance",
    "RobustMeanAbsoluteDeviation",
    "Skewness",
    "Kurtosis",
    "Entropy",
    "Uniformity",
)
# Those that grow with the number of voxels (plain non-uniformities, large-area emphases) only repeat the volume.
TEXTURE = {
    "glcm": ("Correlation", "Id", "JointEntropy"),
    "glrlm": ("RunEntropy",),
    "glszm": ("ZoneEntropy", "ZonePercentage"),
}
SHELLS = ("rim", "core", "surroundings")
CONTRASTS = (("core", "rim"), ("rim", "surroundings"))

STAND_INS = {"Elongation": 1.0, "Flatness": 1.0, "Correlation": 1.0, "Id": 1.0}
"""What stands in where a formula divides nothing by nothing; 0 for every other. One voxel counts as round and even."""


def feature_names(channels: int) -> tuple[str, ...]:
    """Names of the features of a patch of `channels` image channels, in the order of `radiomic_features`.

    `shape_*` once; `channel0_firstorder_*`; of each further channel `channelK_firstorder_*`, `_glcm_*`, `_glrlm_*` and
    `_glszm_*`; then of every channel `channelK_rim_mean`, `_core_mean`, `_surroundings_mean`, the same with `_std`, and
    the differences of means `_core_less_rim` and `_rim_less_surroundings`.

    Raises
    ------
    ValueError
        There is no image channel.

    """
    if channels < 1:
        raise ValueError(f"a patch of {channels} image channels has no features")
    names = [f"shape_{name}" for name in (*SHAPE, "Pieces")]
    for channel in range(channels):
        names += [f"channel{channel}_{kind}_{name}" for kind, wanted in _kinds(channel).items() for name in wanted]
    for channel in range(channels):
        names += [f"channel{channel}_{shell}_{statistic}" for statistic in ("mean", "std") for shell in SHELLS]
        names += [f"channel{channel}_{inner}_less_{outer}" for inner, outer in CONTRASTS]
    return tuple(names)


def compact_names(channels: int) -> tuple[str, ...]:
    """Return those of `feature_names` for cohorts of fewer than some hundred cases: shape, shell means, contrasts.

    Histogram and texture features are many and alike; where cases are fewer than features they cost a linear model more
    than they tell it.
    """
    return tuple(
        name
        for name in feature_names(channels)
        if name.startswith("shape_") or name.endswith("_mean") or "_less_" in name
    )


def radiomic_features(patch: FloatArray, spacing_mm: tuple[float, float, float]) -> FloatArray:
    """Shape, histogram and texture of the lesion, and means, spreads and contrasts of its shells.

    Parameters
    ----------
    patch
        float32 `(channels + 1, z, y, x)`: images scaled near 1, pre-contrast first, then subtractions; last the signed
        distance to the lesion's surface, mm, positive inside.
    spacing_mm
        `(z, y, x)`, mm.

    Returns
    -------
    FloatArray
        float32 `(features,)` in the order of `feature_names`, always finite. Shape is in mm, mm² and mm³, first-order
        in the channels' units, texture a pure number at grey levels of `BIN_WIDTH`.

    Raises
    ------
    StudyError
        No voxel of the patch lies in the lesion (`empty_mask`).
    ValueError
        `patch` has not four axes and two channels, or holds a number that is not finite.
    ConfigError
        The optional PyRadiomics is not installed.

    Notes
    -----
    A lesion without a core, or a patch without surroundings, has the whole lesion's mean and spread there. What one
    voxel or one grey level leaves undefined takes PyRadiomics' own limit, else `STAND_INS`, else 0. `shape_Pieces`
    counts parts of the lesion that do not touch, not even at a corner.

    """
    if patch.ndim != 4 or len(patch) < 2:  # noqa: PLR2004 - the axes and channels of the sentence
        raise ValueError(f"a lesion patch is (channels + 1, z, y, x), not an array of shape {patch.shape}")
    if not np.isfinite(patch).all():
        raise ValueError("the patch holds numbers that are not finite")
    lesion = patch[-1] > 0
    if not lesion.any():
        raise StudyError("empty_mask", "no voxel of the patch lies inside the lesion")
    classes = _feature_classes()
    images = np.clip(patch[:-1].astype(np.float64), -BOUND, BOUND)
    # The matrices see the lesion alone and cost what its box costs. A box of one voxel, without a border, has no
    # direction to look in, which PyRadiomics refuses.
    box = tuple(slice(int(index.min()), int(index.max()) + 1) for index in np.nonzero(lesion))
    mask = _image(np.pad(lesion[box], 1).astype(np.uint8), spacing_mm)
    pieces = ndimage.label(lesion[box], np.ones((3, 3, 3)))[1]
    values = [*_computed(classes["shape"], mask, mask, SHAPE), float(pieces)]
    for channel, volume in enumerate(images):
        image = _image(np.pad(volume[box], 1), spacing_mm)
        for kind, wanted in _kinds(channel).items():
            values += _computed(classes[kind], image, mask, wanted)
    shells = _shells(patch[-1])
    for volume in images:
        means = {name: float(volume[shell].mean()) for name, shell in shells.items()}
        values += [*means.values(), *(float(volume[shell].std()) for shell in shells.values())]
        values += [means[inner] - means[outer] for inner, outer in CONTRASTS]
    return np.array(values, dtype=np.float32)


def _kinds(channel: int) -> dict[str, tuple[str, ...]]:
    """Families of features of a channel; the pre-contrast image has no texture of its own worth its noise."""
    return {"firstorder": FIRST_ORDER} | (TEXTURE if channel else {})


def _shells(distance: FloatArray) -> dict[str, BoolArray]:
    lesion = distance > 0
    shells = (lesion & (distance <= RIM_MM), distance > RIM_MM, ~lesion & (distance >= -SURROUNDINGS_MM))
    return {name: shell if shell.any() else lesion for name, shell in zip(SHELLS, shells, strict=True)}


def _computed(feature_class: Any, image: sitk.Image, mask: sitk.Image, wanted: tuple[str, ...]) -> list[float]:
    """Values of the `wanted` features of one PyRadiomics class, in that order."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # Of one voxel and of one grey level most formulas are 0 / 0; `STAND_INS` answers.
        warnings.simplefilter("ignore", RuntimeWarning)
        computing = feature_class(image, mask, binWidth=BIN_WIDTH, label=1)
        for name in wanted:
            computing.enableFeatureByName(name)
        found = computing.execute()
    numbers = {name: float(np.real(found[name])) for name in wanted}
    return [value if np.isfinite(value) else STAND_INS.get(name, 0.0) for name, value in numbers.items()]


def _image(array: np.ndarray[Any, Any], spacing_mm: tuple[float, float, float]) -> sitk.Image:
    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    image.SetSpacing(tuple(float(step) for step in spacing_mm[::-1]))
    return image


def need_pyradiomics() -> None:
    """Ask for the optional package without importing it.

    Raises
    ------
    ConfigError
        It is not installed.

    """
    if find_spec("radiomics") is None:
        raise ConfigError(
            "the radiomics rival needs PyRadiomics, which is not installed: pip install 'fedbreast[radiomics]'"
        )


def _feature_classes() -> dict[str, Any]:
    """PyRadiomics' classes by family, its logger silenced: it reports every undefined formula as a traceback."""
    need_pyradiomics()
    from radiomics import firstorder, glcm, glrlm, glszm, shape

    logging.getLogger("radiomics").setLevel(logging.CRITICAL + 1)
    return {
        "shape": shape.RadiomicsShape,
        "firstorder": firstorder.RadiomicsFirstOrder,
        "glcm": glcm.RadiomicsGLCM,
        "glrlm": glrlm.RadiomicsGLRLM,
        "glszm": glszm.RadiomicsGLSZM,
    }
