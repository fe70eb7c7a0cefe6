"""Figures as vector files beside a page: the same drawing as SVG and as PDF, bytes that repeat, fonts within.

A page draws inline; inside `kept_in(folder)` whatever it draws is also kept there, without each drawing knowing of it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from server.run_folder.results import replace_file

_STAMP_INCHES = 0.2


@dataclass(frozen=True, slots=True)
class _Place:
    folder: Path
    stamp: str


_PLACE: ContextVar[_Place | None] = ContextVar("place of vector files", default=None)


@contextmanager
def kept_in(folder: Path, stamp: str = "") -> Iterator[None]:
    """Keep every figure drawn inside as `<name>.svg` and `<name>.pdf`; `stamp` is written below each of them."""
    token = _PLACE.set(_Place(folder, stamp))
    try:
        yield
    finally:
        _PLACE.reset(token)


def keep(figure: Figure, name: str) -> None:
    """Write a figure's two files, atomically; outside `kept_in` nothing is written."""
    place = _PLACE.get()
    if place is None:
        return
    # As it stands on the page: another layout would only cost time.
    figure.set_layout_engine("none")
    width, height = figure.get_size_inches()
    below = _STAMP_INCHES if place.stamp else 0.0
    if place.stamp:
        # A file travels without its caption.
        figure.text(0.5, -below / 2 / height, place.stamp, ha="center", va="center", fontsize=7, color="#d55e00")
    box = Bbox.from_bounds(0.0, -below, width, height + below)
    nothing = {"svg": {"Date": None, "Creator": None}, "pdf": {"CreationDate": None, "Creator": None}}
    with mpl.rc_context({"svg.fonttype": "path", "pdf.fonttype": 42}):
        for kind, metadata in nothing.items():
            content = io.BytesIO()
            figure.savefig(content, format=kind, metadata=metadata, bbox_inches=box)
            data = content.getvalue()
            # A subset's prefix comes from a hash of strings, which every process salts anew; six letters stay six.
            data = re.sub(rb"/[A-Z]{6}\+", b"/FEDBRE+", data) if kind == "pdf" else data
            replace_file(place.folder / f"{name}.{kind}", data)
