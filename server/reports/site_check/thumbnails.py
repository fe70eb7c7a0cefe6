"""Thumbnails of a case for the page of `fedbreast check`: its panels side by side, lines in colour, as one JPEG."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from shared.modalities.checked_case import BOX, LESION, Panel

_COLOURS = {LESION: (230, 159, 0), BOX: (86, 180, 233)}  # Okabe and Ito's orange and sky blue
_GAP, _QUALITY = 6, 82


def thumbnail(panels: Sequence[Panel]) -> str:
    """Address of the picture (`data:`), empty without panels; it holds pixels alone, no text and no tags."""
    if not panels:
        return ""
    height = max(one.grey.shape[0] for one in panels)
    width = sum(one.grey.shape[1] for one in panels) + _GAP * (len(panels) - 1)
    strip = np.full((height, width, 3), 255, np.uint8)
    left = 0
    for one in panels:
        part = strip[: one.grey.shape[0], left : left + one.grey.shape[1]]
        part[:] = one.grey[..., None]
        for value, colour in _COLOURS.items():
            part[one.lines == value] = colour
        left += one.grey.shape[1] + _GAP
    content = io.BytesIO()
    Image.fromarray(strip).save(content, "JPEG", quality=_QUALITY, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"
