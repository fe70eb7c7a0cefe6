"""Thumbnails of a case for the page of `fedbreast check`: its panels as JPEG, lines in colour."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from shared.modalities.checked_case import BOX, LESION, Panel

_COLOURS = {LESION: (230, 159, 0), BOX: (86, 180, 233)}  # Okabe and Ito's orange and sky blue
_QUALITY = 82


def thumbnail(panel: Panel) -> str:
    """Address of a panel as a picture (`data:`); it holds pixels alone, no text and no tags."""
    picture = np.repeat(panel.grey[..., None], 3, axis=2)
    for value, colour in _COLOURS.items():
        picture[panel.lines == value] = colour
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "JPEG", quality=_QUALITY, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"
