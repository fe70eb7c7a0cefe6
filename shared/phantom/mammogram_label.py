"""The marker of side and view that a unit burns into a mammogram, far from the chest wall, at the top."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, rotate

from shared.types import FloatArray, Side

# Letters of five by seven dots.
_LETTERS = {
    "R": ("####.", "#...#", "#...#", "####.", "#.#..", "#..#.", "#...#"),
    "L": ("#....", "#....", "#....", "#....", "#....", "#....", "#####"),
    "C": (".###.", "#...#", "#....", "#....", "#....", "#...#", ".###."),
    "M": ("#...#", "##.##", "#.#.#", "#.#.#", "#...#", "#...#", "#...#"),
    "O": (".###.", "#...#", "#...#", "#...#", "#...#", "#...#", ".###."),
    " ": (".....",) * 7,
}
_DOT = 3  # pixels
_MARGIN = 12  # pixels from the picture's edge
_TILT_DEG = 24.0  # of the lead letters that lie on the table of the centre with the look of film


def draw_text(text: str) -> FloatArray:
    """Draw a text as dots of 0 and 1, `(row, column)`, one pixel a dot."""
    rows = ["".join(_LETTERS[letter][row] + "." for letter in text) for row in range(7)]
    return np.array([[dot == "#" for dot in row] for row in rows], dtype=np.float32)


def burn_in(
    values: npt.NDArray[np.floating], side: Side, view: str, white: float, *, tilted: bool
) -> npt.NDArray[np.floating]:
    """Add the marker to a picture as displayed: the chest wall of a right breast is at the right."""
    text = np.kron(draw_text(f"{'L' if side == 'left' else 'R'} {view}"), np.ones((_DOT, _DOT), np.float32))
    if tilted:
        text = rotate(np.pad(text, 4), _TILT_DEG if side == "left" else -_TILT_DEG, order=1)
    text = np.clip(gaussian_filter(text, 0.6), 0.0, 1.0)
    height, width = text.shape
    left = values.shape[1] - _MARGIN - width if side == "left" else _MARGIN
    part = np.s_[_MARGIN : _MARGIN + height, left : left + width]
    marked = np.array(values)
    marked[part] = np.maximum(marked[part], text * 0.9 * white)
    return marked
