"""Radiomic features of a lesion patch, the baseline that every subtype network has to beat.

Definitions are those of the Image Biomarker Standardisation Initiative (Zwanenburg et al., Radiology
2020;295(2):328-38) as PyRadiomics computes them (van Griethuysen et al., Cancer Res 2017;77(21):e104-7), with its two
deviations: bins start at multiples of the bin width instead of the lesion's minimum, and 3 is not subtracted from
kurtosis. Added are features that readers describe (BI-RADS 2013): rim enhancement, conspicuous margin, and foci.
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

BIN_WIDTH = 0.125  # of grey levels in the units of the channels: a power of two, so that every edge is an exact float
BOUND = 10.0  # values are clipped to plus or minus this: an artefact would need a matrix of a million grey levels
RIM_MM = 4.0  # depth of the rim below the surface; the core lies deeper
SURROUNDINGS_MM = 6.0  # width of the surroundings outside the surface, with whatever tissue is there

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
# Without features that grow with the number of voxels (non-uniformities, large-area emphases): they repeat the volume.
TEXTURE = {
    "glcm": ("Correlation", "Id", "JointEntropy"),
    "glrlm": ("RunEntropy",),
    "glszm": ("ZoneEntropy", "ZonePercentage"),
}
SHELLS = ("rim", "core", "surroundings")
CONTRASTS = (("core", "rim"), ("rim", "surroundings"))

STAND_INS = {"Elongation": 1.0, "Flatness": 1.0, "Correlation": 1.0, "Id": 1.0}
"""Values of features that are 0 / 0, other features being 0: a single voxel counts as round and homogeneous."""


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
    """Names of the features for cohorts of less than a few hundred cases: shape, means of the shells, contrasts.

    Histogram and texture features are many and correlated; with fewer cases than features they harm a linear model.
    """
    return tuple(
        name
        for name in feature_names(channels)
        if name.startswith("shape_") or name.endswith("_mean") or "_less_" in name
    )


def radiomic_features(patch: FloatArray, spacing_mm: tuple[float, float, float]) -> FloatArray:
    """Compute shape, histogram and texture of the lesion, and means, standard deviations and contrasts of its shells.

    Parameters
    ----------
    patch
        float32 `(channels + 1, z, y, x)`: pre-contrast image and subtractions, scaled near 1; the last channel is the
        signed distance to the lesion's surface, mm, positive inside.
    spacing_mm
        `(z, y, x)`, mm.

    Returns
    -------
    float32 `(features,)` in the order of `feature_names`, always finite. Shape is in mm, mm² and mm³, first order in
    the units of the channels; texture has no unit and uses grey levels of `BIN_WIDTH`.

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
    Without a core or surroundings, mean and standard deviation of the whole lesion are used there. Features that are
    undefined for one voxel or one grey level take the limit of PyRadiomics, else the value in `STAND_INS`, else 0.
    `shape_Pieces` is the number of parts of the lesion that do not touch, not even at a corner.

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
    # Only the box of the lesion is passed on, as the time grows with its size. A border is added, because PyRadiomics
    # refuses a box of a single voxel.
    box = tuple(slice(int(index.min()), int(index.max()) + 1) for index in np.nonzero(lesion))
    mask = _image(np.pad(lesion[box], 1).astype(np.uint8), spacing_mm)
    pieces = ndimage.label(lesion[box], np.ones((3, 3, 3)))[1]
    values = [*_feature_values(classes["shape"], mask, mask, SHAPE), float(pieces)]
    for channel, volume in enumerate(images):
        image = _image(np.pad(volume[box], 1), spacing_mm)
        for kind, wanted in _kinds(channel).items():
            values += _feature_values(classes[kind], image, mask, wanted)
    shells = _shells(patch[-1])
    for volume in images:
        means = {name: float(volume[shell].mean()) for name, shell in shells.items()}
        values += [*means.values(), *(float(volume[shell].std()) for shell in shells.values())]
        values += [means[inner] - means[outer] for inner, outer in CONTRASTS]
    return np.array(values, dtype=np.float32)


def _kinds(channel: int) -> dict[str, tuple[str, ...]]:
    """Families of features of a channel; the texture of the pre-contrast image is mostly noise and left out."""
    return {"firstorder": FIRST_ORDER} | (TEXTURE if channel else {})


def _shells(distance: FloatArray) -> dict[str, BoolArray]:
    lesion = distance > 0
    shells = (lesion & (distance <= RIM_MM), distance > RIM_MM, ~lesion & (distance >= -SURROUNDINGS_MM))
    return {name: shell if shell.any() else lesion for name, shell in zip(SHELLS, shells, strict=True)}


def _feature_values(feature_class: Any, image: sitk.Image, mask: sitk.Image, names: tuple[str, ...]) -> list[float]:
    """Values of features of one PyRadiomics class, in the order of `names`."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # For one voxel or one grey level most formulas are 0 / 0: see `STAND_INS`.
        warnings.simplefilter("ignore", RuntimeWarning)
        extractor = feature_class(image, mask, binWidth=BIN_WIDTH, label=1)
        for name in names:
            extractor.enableFeatureByName(name)
        features = extractor.execute()
    numbers = {name: float(np.real(features[name])) for name in names}
    return [value if np.isfinite(value) else STAND_INS.get(name, 0.0) for name, value in numbers.items()]


def _image(array: np.ndarray[Any, Any], spacing_mm: tuple[float, float, float]) -> sitk.Image:
    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    image.SetSpacing(tuple(float(step) for step in spacing_mm[::-1]))
    return image


def need_pyradiomics() -> None:
    """Check that the optional package is installed, without importing it; `ConfigError` if it is not."""
    if find_spec("radiomics") is None:
        raise ConfigError("radiomics needs PyRadiomics, which is not installed: pip install 'fedbreast[radiomics]'")


def _feature_classes() -> dict[str, Any]:
    """PyRadiomics' classes by family; its logger is silenced, as it writes a traceback for every undefined feature."""
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
