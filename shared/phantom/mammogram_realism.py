"""Measures of a mammogram that real ones are known by, and the floor of any detector: a rule without training.

All take a picture in which tissue is bright, `(row, column)`, and where in it breast is; they serve tests and
benchmarks, on phantoms and on real pictures alike.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_erosion, binary_fill_holes, gaussian_filter, label

from shared.types import BoolArray, FloatArray

_WINDOW, _STRIDE = 96, 24  # pixels
_LOWEST, _HIGHEST = 3, 24  # cycles a window: above the breast's own shape, below noise and blur
_BLOB_MM = 2.5  # smoothing before the brightest place is sought
_RIM_MM = 6.0  # from the skin, which is bright and no lesion
_FALL = 0.55  # a lesion ends where its contrast to the breast's median has fallen to this share


def power_law_exponent(picture: FloatArray, inside: BoolArray) -> float:
    """Exponent of the radial power spectrum of parenchyma, about 3 in real mammograms; NaN where too little fits.

    Mean of Hann-weighted windows within `inside` (Burgess et al., Med Phys 2001;28:419).
    """
    weight = np.outer(np.hanning(_WINDOW), np.hanning(_WINDOW))
    frequency = np.fft.fftfreq(_WINDOW)
    radius = np.hypot(frequency[:, None], frequency[None, :]) * _WINDOW
    spectra = []
    for row in range(0, picture.shape[0] - _WINDOW, _STRIDE):
        for column in range(0, picture.shape[1] - _WINDOW, _STRIDE):
            part = np.s_[row : row + _WINDOW, column : column + _WINDOW]
            if inside[part].all():
                window = picture[part] - picture[part].mean()
                spectra.append(np.abs(np.fft.fft2(window * weight)) ** 2)
    if not spectra:
        return float("nan")
    power, cycles = np.mean(spectra, axis=0), np.arange(_LOWEST, _HIGHEST)
    radial = [power[(radius >= cycle - 0.5) & (radius < cycle + 0.5)].mean() for cycle in cycles]
    return float(-np.polyfit(np.log(cycles), np.log(radial), 1)[0])


def bright_share(picture: FloatArray, inside: BoolArray, level: float = 0.5) -> float:
    """Share of the breast's pixels that are brighter than `level`: area density."""
    return float((picture[inside] > level).mean())


def brightest_outline(picture: FloatArray, inside: BoolArray, pixel_mm: float) -> BoolArray:
    """Outline by a rule: the brightest place off the skin, down to about half of its contrast to the breast."""
    smooth = gaussian_filter(picture, _BLOB_MM / pixel_mm)
    # The chest wall is the picture's edge and no skin.
    within = binary_erosion(np.pad(inside, ((0, 0), (9, 0)), mode="edge"), iterations=round(_RIM_MM / pixel_mm))[:, 9:]
    if not within.any():
        return np.zeros(picture.shape, np.bool_)
    peak = np.unravel_index(np.argmax(np.where(within, smooth, -np.inf)), picture.shape)
    middle = float(np.median(picture[within]))
    bodies, _ = label((smooth > middle + _FALL * (smooth[peak] - middle)) & within)
    return np.asarray(binary_fill_holes(bodies == bodies[peak]))
