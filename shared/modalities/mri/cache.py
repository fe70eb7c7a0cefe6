"""Prepared cases on disk, in two stages: the breast as extracted, then the array on a plan's grid.

Both are keyed by what they are made from: the bytes of the input files and the settings. A renamed folder hits; a
changed image, mask, side, setting or version of this package misses. The first stage does not depend on the plan: a
study is read, cropped and corrected once, for the fingerprint, and a new plan costs only the resampling.
"""

from __future__ import annotations

import hashlib
import logging
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from shared.cohort.labels import CaseLabels
from shared.errors import StudyError
from shared.modalities.mri.pipeline import Placement, prepare_region
from shared.modalities.mri.plan import Extraction, Plan
from shared.modalities.mri.region import BreastRegion, extract_region
from shared.preprocessing.store import locked, open_array, pack_mask, read_entry, unpack_mask, write_entry
from shared.types import BoolArray, Grid, Side

if TYPE_CHECKING:
    from shared.cohort.preflight import Case

log = logging.getLogger(__name__)

MOST_PHASES = 8  # post-contrast phases read, of which the plan's are chosen by time


@dataclass(frozen=True)
class CachedCase:
    """One prepared case; its arrays are opened when first used.

    Attributes
    ----------
    key
        The case's pseudonym.
    side
        Its breast.
    folder
        Where its arrays lie.
    meta
        Where it lies in its study; for `pipeline.to_native`.
    seconds
        What reading, extracting and resampling took when it was made.
    region_folder
        Where the extracted breast lies.
    labels
        What the table says of it.
    tissue_folder
        Where its tissue masks lie (`tissues.keep_tissues`), for runs that train on them.

    """

    key: str
    side: Side
    folder: Path
    meta: Placement
    seconds: float
    region_folder: Path
    labels: CaseLabels
    tissue_folder: Path | None = None

    def region(self) -> BreastRegion:
        """The breast as it was extracted, before the plan's grid.

        Raises
        ------
        StudyError
            `preprocessing_failed`: the cache no longer holds it.

        """
        facts = read_entry(self.region_folder)
        if facts is None:
            raise StudyError("preprocessing_failed", "the cache lost the extracted breast: prepare the site again")
        return _load_region(self.region_folder, facts, self.side)

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
        return self.meta.native

    @property
    def native_mask(self) -> BoolArray:
        """The reference as drawn, bool `(z, y, x)` on the study's own grid; read anew each time."""
        return unpack_mask(open_array(self.folder, "native_mask"), self.meta.native.shape)


class CaseCache:
    """Extracted and prepared cases below one folder; safe with several processes and threads.

    Parameters
    ----------
    root
        A folder of the site's own; never inside the site's data, which stay as they are.

    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def region(self, case: Case, extraction: Extraction) -> BreastRegion:
        """The case's breast, extracted once.

        Raises
        ------
        StudyError
            The study is not sound: see the door and `region.extract_region`.

        """
        return self._region(case, extraction, content_digest(case))[0]

    def get_or_make(self, case: Case, plan: Plan) -> CachedCase:
        """Open a prepared case, or make it first.

        Raises
        ------
        StudyError
            As `region`, or the lesion lies outside the plan's box.

        """
        content = content_digest(case)
        folder = self.root / "cases" / _name(content, plan.hash())
        with locked(self.root, folder):
            facts = read_entry(folder)
            if facts is None:
                region, spent = self._region(case, plan.extraction, content)
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
                write_entry(folder, arrays, {"place": prepared.meta.to_dict(), "seconds": seconds})
                log.info("case %s prepared in %.2f s", case.key, seconds)
                # Through JSON like any later reader, so that a first and a second run go the same way.
                facts = read_entry(folder)
        assert facts is not None  # noqa: S101 - written under the lock just now
        return CachedCase(
            key=case.key,
            side=case.row.side,
            folder=folder,
            meta=Placement.from_dict(facts["place"]),
            seconds=facts["seconds"],
            region_folder=self._region_folder(content, plan.extraction),
            labels=case.row.labels,
        )

    def _region(self, case: Case, extraction: Extraction, content: str) -> tuple[BreastRegion, float]:
        """The extracted breast and the seconds that it took when it was made."""
        folder = self._region_folder(content, extraction)
        with locked(self.root, folder):
            facts = read_entry(folder)
            if facts is not None:
                return _load_region(folder, facts, case.row.side), float(facts["seconds"])
            started = time.perf_counter()
            study = case.load_study(MOST_PHASES)
            lesion = case.load_mask(study.grid) if case.row.mask else None
            read = time.perf_counter() - started
            region = extract_region(study, lesion, case.row.side, extraction)
            seconds = time.perf_counter() - started
            arrays: dict[str, npt.NDArray[Any]] = {"phases": region.phases, "breast": pack_mask(region.breast)}
            if region.lesion is not None:
                arrays["lesion"] = pack_mask(region.lesion)
            grid = {name: getattr(region.grid, name) for name in ("shape", "spacing", "origin", "direction")}
            write_entry(folder, arrays, {"grid": grid, "start": region.start, "seconds": seconds})
            log.info("case %s extracted in %.2f s, of which reading %.2f s", case.key, seconds, read)
            return region, seconds

    def _region_folder(self, content: str, extraction: Extraction) -> Path:
        return self.root / "regions" / _name(content, extraction.hash())


def content_digest(case: Case) -> str:
    """SHA-256 of all that a case is read from: its files' bytes, its side, what its row says of times and segment.

    Names and places of DICOM files do not count, as their order is told by their tags; NIfTI phases are told apart by
    their names' order.
    """
    files = case.input_files()
    mask = case.mask_path()
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path != mask]
    if not any(path.name.endswith((".nii", ".nii.gz")) for path in files if path != mask):
        digests.sort()
    drawn = hashlib.sha256(mask.read_bytes()).hexdigest() if mask in files and mask is not None else "none"
    segment = case.row.mask.rpartition("#")[2] if "#" in case.row.mask else ""
    parts = [case.row.side, str(case.row.acquisition_times_s), drawn, segment, *digests]
    return hashlib.sha256("|".join(parts).encode()).hexdigest()


def _name(content: str, settings: str) -> str:
    return hashlib.sha256(f"{content}|{settings}".encode()).hexdigest()[:32]


def _load_region(folder: Path, facts: dict[str, Any], side: Side) -> BreastRegion:
    grid = Grid(**{name: tuple(values) for name, values in facts["grid"].items()})
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
