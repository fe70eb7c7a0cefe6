"""Prepared cases on disk, in two stages: the extracted breast, then the array on the grid of a plan.

The first stage does not depend on the plan: a study is read, cropped and corrected once for the fingerprint, and a new
plan needs only another resampling.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from shared.cohort.labels import CaseLabels
from shared.cohort.preflight import Case
from shared.errors import StudyError
from shared.modalities.mri.pipeline import Placement, prepare_region
from shared.modalities.mri.plan import Extraction, MriPlan
from shared.modalities.mri.region import BreastRegion, extract_region
from shared.modalities.mri.study import image_files, read_case
from shared.preprocessing.cache import (
    Entry,
    content_digest,
    entry_name,
    get_or_make,
    open_array,
    pack_mask,
    read_entry,
    unpack_mask,
)
from shared.types import BoolArray, Grid, Side

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PreparedMri:
    """One prepared case, `key` its pseudonym; its arrays are opened when they are first used."""

    key: str
    side: Side
    folder: Path
    place: Placement
    seconds: float  # that reading, extracting and resampling took
    region_folder: Path
    labels: CaseLabels
    missed: bool = False  # no voxel of the reference lies in the array
    tissue_folder: Path | None = None  # of `tissues.keep_tissues`, in runs that train on them

    def region(self) -> BreastRegion:
        """Load the extracted breast, before resampling to the plan's grid; `StudyError` if the cache has lost it."""
        facts = read_entry(self.region_folder)
        if facts is None:
            raise StudyError("preprocessing_failed", "the cache lost the extracted breast: prepare the site again")
        return _load_region(self.region_folder, facts, self.side)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        record: dict[str, Any] = _RECORDS.dump_python(self, mode="json")
        return record

    @staticmethod
    def from_dict(data: Mapping[str, Any]) -> PreparedMri:
        """Undo `to_dict`; `ValueError` for other data, `FileNotFoundError` if the cache holds the case no more."""
        case = _RECORDS.validate_python(data)
        if case.to_dict() != data:  # of another version: pydantic passes over unknown fields and fills in defaults
            raise ValueError("not the record of a prepared case")
        if not all(folder.is_dir() for folder in (case.folder, case.tissue_folder) if folder is not None):
            raise FileNotFoundError("the cache no longer holds the prepared case")
        return case

    @cached_property
    def image(self) -> npt.NDArray[np.float16]:
        """Memory map `(channel, z, y, x)` on the plan's grid."""
        return open_array(self.folder, "image")

    @cached_property
    def mask(self) -> npt.NDArray[np.uint8]:
        """Memory map `(z, y, x)` of 0 and 1 on the plan's grid."""
        return open_array(self.folder, "mask")

    @cached_property
    def foreground(self) -> npt.NDArray[np.int32]:
        """Lesion voxels `(n, 3)` as `(z, y, x)` on the plan's grid."""
        return open_array(self.folder, "foreground")

    @property
    def native_grid(self) -> Grid:
        """The study's own grid."""
        return self.place.native

    @property
    def native_mask(self) -> BoolArray:
        """Reference mask, bool `(z, y, x)` on the study's own grid; read at each call."""
        return unpack_mask(open_array(self.folder, "native_mask"), self.place.native.shape)


_RECORDS, _PLACES, _GRIDS = TypeAdapter(PreparedMri), TypeAdapter(Placement), TypeAdapter(Grid)


def cached_region(case: Case, extraction: Extraction, root: Path) -> BreastRegion:
    """Return the extracted breast of a case, from the cache at `root` if it is there.

    Raises
    ------
    StudyError
        The study cannot be used: see `study.read_study` and `region.extract_region`.

    """
    return _region(case, extraction, content_digest(case, image_files(case)), root)[0]


def cached_case(case: Case, plan: MriPlan, root: Path) -> PreparedMri:
    """Return a prepared case, from the cache at `root` if there; raises as `cached_region` and `prepare_region`."""
    content = content_digest(case, image_files(case))

    def make() -> Entry:
        region, spent = _region(case, plan.extraction, content, root)
        started = time.perf_counter()
        prepared = prepare_region(region, plan)
        lesion = np.zeros(prepared.image.shape[1:], np.bool_) if prepared.mask is None else prepared.mask
        drawn = np.zeros(region.grid.shape, np.bool_) if region.lesion is None else region.lesion
        arrays: dict[str, npt.NDArray[Any]] = {
            "image": prepared.image,
            "mask": lesion.astype(np.uint8),
            "foreground": np.argwhere(lesion).astype(np.int32),
            "native_mask": pack_mask(drawn),
        }
        seconds = spent + time.perf_counter() - started
        log.info("case %s prepared in %.2f s", case.key, seconds)
        missed = prepared.mask is not None and not lesion.any()
        if missed:
            log.warning("case %s: its crop misses the lesion", case.key)
        return arrays, {"place": asdict(prepared.place), "seconds": seconds, "missed": missed}

    folder = root / "cases" / entry_name(content, plan.hash())
    facts = get_or_make(root, folder, make)
    return PreparedMri(
        key=case.key,
        side=case.row.side,
        folder=folder,
        place=_PLACES.validate_python(facts["place"]),
        seconds=facts["seconds"],
        region_folder=_region_folder(content, plan.extraction, root),
        labels=case.row.labels,
        missed=facts.get("missed", False),  # entries of former versions never are
    )


def _region(case: Case, extraction: Extraction, content: str, root: Path) -> tuple[BreastRegion, float]:
    """The extracted breast, and the seconds that the extraction took."""

    def make() -> Entry:
        started = time.perf_counter()
        study = read_case(case)
        lesion = case.load_mask(study.grid) if case.row.mask else None
        read = time.perf_counter() - started
        region = extract_region(study, lesion, case.row.side, extraction)
        seconds = time.perf_counter() - started
        arrays: dict[str, npt.NDArray[Any]] = {"phases": region.phases, "breast": pack_mask(region.breast)}
        if region.lesion is not None:
            arrays["lesion"] = pack_mask(region.lesion)
        log.info("case %s extracted in %.2f s, of which reading %.2f s", case.key, seconds, read)
        return arrays, {"grid": asdict(region.grid), "start": region.start, "seconds": seconds}

    folder = _region_folder(content, extraction, root)
    facts = get_or_make(root, folder, make)
    return _load_region(folder, facts, case.row.side), float(facts["seconds"])


def _region_folder(content: str, extraction: Extraction, root: Path) -> Path:
    return root / "regions" / entry_name(content, extraction.hash())


def _load_region(folder: Path, facts: dict[str, Any], side: Side) -> BreastRegion:
    grid = _GRIDS.validate_python(facts["grid"])
    phases = open_array(folder, "phases")
    z, y, x = facts["start"]
    lesion = folder / "lesion.npy"
    return BreastRegion(
        phases=phases,
        breast=unpack_mask(open_array(folder, "breast"), phases.shape[1:]),
        lesion=unpack_mask(open_array(folder, "lesion"), grid.shape) if lesion.is_file() else None,
        grid=grid,
        start=(z, y, x),
        side=side,
    )
