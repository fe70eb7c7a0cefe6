"""What a few slices of each volume show where tags are silent: copies, subtractions, other contrasts, the injection.

The thresholds were measured on 20 phantom exams of four centres at three strengths of fat suppression, and on slices of
132 patients of I-SPY: after an injection the brightest percent of tissue gains at least 4 times (phantoms with fat
suppression: 5) of what the darkest percent loses by noise and motion; between phantoms' later phases at most 2.5, as
blood and fast lesions wash out. Without fat suppression half of the exams are not settled, and left out. The phases of
an exam correlate at 0.8 or more in the median, with and without fat suppression at 0.13 or less. An exact subtraction
correlates with its difference at 1, a phase with the difference of two others at 0.95 at most.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from shared.dicom.header import FileHeader
from shared.dicom.pixels import read_slices
from shared.types import BoolArray, FloatArray, Grid

_SLICES = 5
_BLOCK_MM = 5.0
_MOST_PIXELS = 20_000  # of each volume that are compared one by one
_TISSUE = 0.15  # of the 95th percentile of the brightest of all volumes
_GAIN_OVER_LOSS = 3.0
_LEAST_GAIN = 0.05  # of the tissue's median, that the brightest percent gains
_ONSET = 0.15  # share of the largest mean gain that a volume before the injection may have
_ALIKE = 0.2  # median correlation with the other volumes, below which a volume is of another contrast
_IS_DIFFERENCE = 0.99
_ENOUGH = 3  # volumes, of which one can be the odd one


@dataclass(frozen=True, slots=True)
class Look:
    """A few slices of one volume: means of blocks, some of their pixels, and a digest of all of them."""

    blocks: FloatArray  # (slice, row, column)
    pixels: FloatArray  # flat
    digest: bytes


def look_at(slices: Sequence[FileHeader], grid: Grid) -> Look:
    """Read some slices of a stack; raises as `pixels.read_slices`."""
    planes = [plane for plane, _ in read_slices(slices[index] for index in some_of(len(slices)))]
    return look_of(np.stack(planes), grid.spacing[1:])


def some_of(count: int) -> list[int]:
    """Indices of a few of so many slices, evenly apart."""
    chosen = np.linspace(0, count - 1, min(_SLICES, count) + 2).round().astype(int)[1:-1]
    return list(dict.fromkeys(chosen.tolist()))


def look_of(planes: FloatArray, spacing: tuple[float, float]) -> Look:
    """Look at planes `(slice, y, x)`, `spacing` of their pixels `(y, x)` in mm."""
    rows, columns = (max(1, round(_BLOCK_MM / step)) for step in spacing)
    rows, columns = min(rows, planes.shape[1]), min(columns, planes.shape[2])
    height, width = planes.shape[1] // rows * rows, planes.shape[2] // columns * columns
    parts = planes[:, :height, :width].reshape(len(planes), height // rows, rows, width // columns, columns)
    return Look(
        blocks=parts.mean((2, 4)),
        pixels=planes.ravel()[:: max(1, planes.size // _MOST_PIXELS)].copy(),
        digest=hashlib.sha256(planes.tobytes()).digest(),
    )


def copies(looks: Sequence[Look]) -> set[int]:
    """Indices of volumes with the pixels of one before them."""
    first: dict[bytes, int] = {}
    return {index for index, look in enumerate(looks) if first.setdefault(look.digest, index) != index}


def subtractions(looks: Sequence[Look]) -> set[int]:
    """Indices of volumes that are the difference of two others, clipped at zero or not.

    If post - pre = sub, then also post - sub = pre: of the two the subtraction has more pixels without signal, as air
    has none in it.
    """
    values = np.stack([look.pixels for look in looks]).astype(np.float64)
    lows = [(float((row <= 0).mean()), -float(np.median(row))) for row in values]
    marked: set[int] = set()
    for index, row in enumerate(values):
        kept = row > row.min()
        if len(looks) < _ENOUGH or kept.sum() < _ENOUGH:
            continue
        part = values[:, kept] - values[:, kept].mean(1, keepdims=True)
        products = part @ part.T
        norms = np.diag(products)
        covariance = products[index][:, None] - products[index][None, :]
        length = np.sqrt(np.maximum(norms[:, None] + norms[None, :] - 2 * products, 0.0) * norms[index])
        alike = np.divide(covariance, length, out=np.zeros_like(length), where=length > 1e-9 * max(norms.max(), 1.0))
        alike[index], alike[:, index] = 0.0, 0.0
        pairs = np.argwhere(alike > _IS_DIFFERENCE)
        if any(lows[index] > lows[subtrahend] for _, subtrahend in pairs.tolist()):
            marked.add(index)
    return marked


def other_contrasts(looks: Sequence[Look]) -> set[int]:
    """Indices of volumes unlike most others, as one without fat suppression among such with it."""
    if len(looks) < _ENOUGH:
        return set()
    blocks, tissue = _tissue(looks)
    with np.errstate(divide="ignore", invalid="ignore"):
        alike = np.nan_to_num(np.corrcoef(blocks[:, tissue]))
    odd = set()
    for index, row in enumerate(alike):
        others = np.sort(np.delete(row, index))
        if others[len(others) // 2] < _ALIKE:
            odd.add(index)
    return odd


def last_before_injection(looks: Sequence[Look]) -> int | None:
    """Index of the last volume before the tissue brightens, of volumes in order; None if it does not."""
    blocks, tissue = _tissue(looks)
    if len(looks) < 2 or not tissue.any():  # noqa: PLR2004 - one volume has no change
        return None
    gains = blocks[:, tissue] - blocks[0, tissue]
    means = gains.mean(1)
    best = int(np.argmax(means))
    low, high = np.percentile(gains[best], [1, 99])
    level = abs(float(np.median(blocks[0, tissue])))
    if best == 0 or high < _LEAST_GAIN * level or high < _GAIN_OVER_LOSS * max(-low, 0.0):
        return None
    return int(np.argmax(means > _ONSET * means[best])) - 1


def _tissue(looks: Sequence[Look]) -> tuple[npt.NDArray[Any], BoolArray]:
    """Blocks of all volumes, `(volume, slice, row, column)`, and where tissue is."""
    blocks = np.stack([look.blocks for look in looks]).astype(np.float64)
    brightest = blocks.max(0)
    tissue: BoolArray = brightest > _TISSUE * np.percentile(brightest, 95)
    return blocks, tissue
