"""Reference masks of breast and fibroglandular tissue, placed as a prepared case's lesion is.

They are an entry of their own in the cache, made for runs that train on them: cases that other tasks prepared stay as
they are. A case is one breast, so its reference is what the masks mark inside that breast's box: a mask may hold the
other breast too, and no network sees beyond the box. Fibroglandular tissue outside the breast's mask does not count.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from shared.cohort.preflight import TISSUE_MASKS, Case
from shared.errors import ExclusionReason, StudyError
from shared.modalities.mri.cache import PreparedMri
from shared.modalities.mri.pipeline import Placement
from shared.preprocessing.cache import Made, entry_name, get_or_make
from shared.preprocessing.resample import resample_mask
from shared.preprocessing.store import open_array, pack_mask, unpack_mask
from shared.types import STRUCTURES, BoolArray, Grid

log = logging.getLogger(__name__)

VERSION = 1
"""Of this file's code: raised when it changes what the masks look like."""


def with_tissues(root: Path, case: Case, prepared: PreparedMri) -> PreparedMri:
    """Add a case's tissue masks; without usable ones it comes back as it is, for the tasks that need none.

    Parameters
    ----------
    root
        The cache's folder.
    case, prepared
        The row's case, and what the cache made of it.

    """
    if not any(case.mask_path(kind) for kind in TISSUE_MASKS):
        return prepared
    try:
        folder = keep_tissues(root, case, prepared)
    except StudyError as error:
        log.warning("case %s has no tissue masks: %s", case.key, error)
        return prepared
    return replace(prepared, tissue_folder=folder, labels=replace(prepared.labels, tissues=True))


def keep_tissues(root: Path, case: Case, prepared: PreparedMri) -> Path:
    """Place and keep a case's tissue masks; return the entry's folder. Parameters as `with_tissues`.

    Raises
    ------
    StudyError
        `no_mask`: the row names only one of the two, or a file is absent; `empty_mask`: no breast in the box, or a mask
        without a voxel; others as `shared.dicom.masks.read_mask`.

    """

    def make() -> Made:
        native = _read(case, prepared.meta)
        return {"tissues": _place(native, prepared.meta), "native": pack_mask(native)}, {}

    folder = root / "tissues" / _entry(case, prepared)
    get_or_make(root, folder, make)
    return folder


def tissue_fault(case: Case, grid: Grid) -> ExclusionReason | None:
    """Why masks of breast and fibroglandular tissue are of no use; None where they can be read or none is named.

    Such a case stays in every other task.
    """
    if not any(case.mask_path(kind) for kind in TISSUE_MASKS):
        return None
    try:
        for kind in TISSUE_MASKS:
            case.load_mask(grid, kind)
    except StudyError as error:
        return error.reason
    return None


def open_tissues(case: PreparedMri) -> npt.NDArray[np.uint8]:
    """Memory map `(structure, z, y, x)` of 0 and 1 on the plan's grid, in the order of `STRUCTURES`."""
    return open_array(_folder(case), "tissues")


def native_tissues(case: PreparedMri) -> BoolArray:
    """The reference as drawn, bool `(structure, z, y, x)` on the study's own grid; nothing outside the box."""
    return unpack_mask(open_array(_folder(case), "native"), (len(STRUCTURES), *case.meta.native.shape))


def _folder(case: PreparedMri) -> Path:
    if case.tissue_folder is None:
        raise StudyError("no_mask", "the case has no reference masks of breast and fibroglandular tissue")
    return case.tissue_folder


def _read(case: Case, place: Placement) -> BoolArray:
    native = np.zeros((len(STRUCTURES), *place.native.shape), np.bool_)
    for mask, kind in zip(native, TISSUE_MASKS, strict=True):
        mask[place.window] = case.load_mask(place.native, kind)[place.window]
    if not native[0].any():
        raise StudyError("empty_mask", "the breast's mask marks nothing in the breast that the images show")
    native[1] &= native[0]
    return native


def _place(native: BoolArray, place: Placement) -> npt.NDArray[np.uint8]:
    placed = np.stack([resample_mask(mask[place.window], place.box_axes, place.plan_axes) for mask in native])
    return np.ascontiguousarray(placed[..., ::-1] if place.mirrored else placed, np.uint8)


def _entry(case: Case, prepared: PreparedMri) -> str:
    """Name by content: the prepared case's own, which stands for images and plan, and the masks' bytes and segments."""
    parts = [prepared.folder.name, str(VERSION)]
    for kind in TISSUE_MASKS:
        digest = hashlib.sha256(case.need_mask(kind).read_bytes()).hexdigest()
        parts += [digest, getattr(case.row, kind).partition("#")[2]]
    return entry_name(*parts)
