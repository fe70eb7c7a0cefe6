"""Pictures of single cases: chosen by rule, stored as small arrays in the run folder, drawn from there.

What is stored is what is drawn: three slices through the lesion and a projection, with both outlines, so a page can be
made again without the images. File names are pseudonyms.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import ndimage

from server.run_folder.results import replace_file
from shared.errors import RunError
from shared.types import BoolArray, FloatArray

PLANES = ("axial", "coronal", "sagittal")
VIEWS = (*PLANES, "projection")
LABELS = ("best", "median", "worst")


Mask = BoolArray | npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class View:
    """One plane of a case.

    Attributes
    ----------
    image
        float32 `(row, column)`, for lesions post-contrast minus pre-contrast signal; rows run to posterior, or to
        superior where the plane holds the z axis, columns to the patient's left, or to posterior in the sagittal plane.
    reference, prediction
        The masks in this plane, or in how many of several nested structures each voxel lies; in the projection, their
        outlines seen along z.
    spacing
        mm a row and a column.

    """

    image: FloatArray
    reference: Mask
    prediction: Mask
    spacing: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Picture:
    """A stored case: why it was chosen, its pseudonym, and its views by name."""

    label: str
    case: str
    views: dict[str, View]


def select_pictures(cases: pd.DataFrame, by: str = "dice") -> dict[str, str]:
    """Best, median and worst case by a column, label to case; ties go to the first name, so the choice is reproducible.

    `cases` are one model's rows of the per-case table, at least one.
    """
    ordered = cases.sort_values([by, "case"], ascending=[False, True])["case"].tolist()
    return {"best": ordered[0], "median": ordered[(len(ordered) - 1) // 2], "worst": ordered[-1]}


def picture_path(root: Path, task: str, label: str, centre: str = "") -> Path:
    """Where a picture of a task lies, below a run's folder or, by centre, below a study's."""
    return root / "pictures" / task / centre / f"{label}.npz"


def store_planes(
    path: Path,
    case: str,
    volumes: Mapping[str, npt.NDArray[Any]],
    *,
    spacing: tuple[float, float, float],
    field_mm: float,
) -> None:
    """Store planes of a case's `image`, `reference` and `prediction`, `(z, y, x)` on one grid, atomically.

    The planes pass through the reference where its outline is largest (through the prediction where there is no
    reference); the box shows `field_mm` around it, and the projection is the maximum through that box along z.
    """
    reference, prediction = volumes["reference"] > 0, volumes["prediction"] > 0
    centre = largest_section(reference if reference.any() else prediction)
    box = tuple(
        slice(max(0, middle - round(field_mm / 2 / step)), middle + round(field_mm / 2 / step) + 1)
        for middle, step in zip(centre, spacing, strict=True)
    )
    z, y, x = (middle - part.start for middle, part in zip(centre, box, strict=True))
    arrays: dict[str, npt.NDArray[np.generic]] = {"spacing": np.asarray(spacing, np.float64), "case": np.array(case)}
    for name, volume in ((name, volume[box]) for name, volume in volumes.items()):
        arrays[f"{name}.axial"], arrays[f"{name}.coronal"] = volume[z], volume[:, y]
        arrays[f"{name}.sagittal"], arrays[f"{name}.projection"] = volume[:, :, x], volume.max(axis=0)
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **arrays)
    replace_file(path, content.getvalue())


def largest_section(mask: BoolArray) -> tuple[int, int, int]:
    """A voxel `(z, y, x)` of the largest piece, in its largest axial section; the volume's centre without a mask."""
    if not mask.any():
        z, y, x = (size // 2 for size in mask.shape)
        return z, y, x
    pieces, _ = ndimage.label(mask, np.ones((3, 3, 3)))
    largest = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    z = int(np.argmax(largest.sum(axis=(1, 2))))
    middle = ndimage.center_of_mass(largest[z])
    # The nearest voxel of the lesion itself: the centre of a crescent lies outside it.
    inside = np.argwhere(largest[z])
    y, x = inside[np.argmin(((inside - middle) ** 2).sum(axis=1))]
    return z, int(y), int(x)


def read_pictures(root: Path, task: str, centre: str = "") -> list[Picture]:
    """A task's stored pictures in the order best, median, worst; a missing one is left out.

    `RunError` where a file is not what `store_planes` writes. Nothing is unpickled.
    """
    files = [(label, picture_path(root, task, label, centre)) for label in LABELS]
    return [_read_picture(label, file) for label, file in files if file.is_file()]


def _read_picture(label: str, file: Path) -> Picture:
    try:
        with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as stored:
            depth, height, width = (float(step) for step in stored["spacing"])
            steps = dict(zip(VIEWS, ((height, width), (depth, width), (depth, height), (height, width)), strict=True))
            views = {
                name: View(
                    stored[f"image.{name}"], stored[f"reference.{name}"], stored[f"prediction.{name}"], steps[name]
                )
                for name in VIEWS
            }
            return Picture(label, str(stored["case"]), views)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise RunError(f"pictures/{file.name} cannot be read: delete it or make the report's pictures again") from error
