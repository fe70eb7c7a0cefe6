"""Which files of a case are its CC and its MLO view; everything else is left out by name, and counted.

A case is one breast of one exam. Its files lie in a folder, or are those of a patient and exam, of both breasts; CBIS-
DDSM has a folder a view, `<path>_CC` and `<path>_MLO`. Of several images of a view, the first of this order is taken
that can be read: not synthesised, whole, For Presentation, latest.
"""

from __future__ import annotations

import filecmp
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shared.cohort.preflight import Case
from shared.dicom.header import FileHeader
from shared.dicom.index import list_files, read_header
from shared.errors import ExclusionReason, StudyError
from shared.modalities.mammography.image import MammogramImage, read_mammogram
from shared.modalities.mammography.tags import (
    SECONDARY_CAPTURE,
    VIEWS,
    View,
    ViewTags,
    is_mammogram,
    read_view_tags,
)
from shared.types import Side

LeftOut = ExclusionReason | Literal["other_breast", "further_image"]
"""Why a file is left out: a fault of it, the other breast's image, or another one of its view was taken."""
_CBIS_SUFFIX = re.compile(r"_(LEFT|RIGHT)_(CC|MLO)(_\d+)?$")
_INTENTS = ("processing", "film", "presentation")


@dataclass(frozen=True, slots=True)
class BreastViews:
    """The views of a case.

    Attributes
    ----------
    images
        One or two: a view that cannot be used is left out, and the case goes on with the other one.
    chosen
        Of each view how many images there are, and why this one was taken, where there are several.
    left_out
        How many files were left out, by reason.

    """

    images: Mapping[View, MammogramImage]
    chosen: Mapping[View, str]
    left_out: Mapping[LeftOut, int]


def lies_at(path: Path) -> bool:
    """Whether a path that is no folder stands for the folders of views."""
    return bool(_folders(path))


def image_files(case: Case) -> tuple[Path, ...]:
    """All files of the case, sorted; those found by PatientID and exam are of both breasts."""
    if case.path is None:
        return tuple(sorted(case.files))
    return tuple(sorted(path for folder in _folders(case.path) for path in list_files(folder)))


def _folders(path: Path) -> list[Path]:
    if path.is_dir():
        return [path]
    return [folder for view in VIEWS if (folder := path.with_name(f"{path.name}_{view}")).is_dir()]


def read_views(case: Case) -> BreastViews:
    """Read the views of a case; raises as `choose_views`."""
    return choose_views(image_files(case), case.row.side)


def choose_views(files: Iterable[Path], side: Side) -> BreastViews:
    """Read the CC and MLO view of a breast among these files.

    Raises
    ------
    StudyError
        `no_images`; `laterality_conflict`: all are of the other breast; `several_patients`, `several_studies`,
        `duplicate_slices` of the plain views; where none can be read, the reason of the first: of the image itself
        before that of its tags.

    """
    candidates, faults, others = _sorted_out(files, side)
    _check_one_exam(candidates)
    images: dict[View, MammogramImage] = {}
    chosen: dict[View, str] = {}
    broken: list[StudyError] = []
    further = 0
    for view in VIEWS:
        ranked = sorted((item for item in candidates if item.view == view), key=_rank, reverse=True)
        for place, item in enumerate(ranked):
            try:
                images[view] = read_mammogram(item)
            except StudyError as error:
                broken.append(error)
            else:
                further += len(ranked) - place - 1
                if len(ranked) > 1:
                    chosen[view] = _why(item, ranked, place)
                break
    if not images:
        reasons = [*broken, *faults]
        if not reasons and others:
            raise StudyError("laterality_conflict", f"the table says {side}, the images' tags the other breast")
        raise reasons[0] if reasons else StudyError("no_images", "no mammogram lies at the row's path")
    counts: Counter[LeftOut] = Counter(error.reason for error in (*broken, *faults))
    counts.update({"other_breast": others, "further_image": further})
    return BreastViews(images, chosen, {reason: count for reason, count in counts.items() if count})


def _sorted_out(files: Iterable[Path], side: Side) -> tuple[list[ViewTags], list[StudyError], int]:
    """Plain views of the breast, why others are none, and how many are of the other breast."""
    candidates: dict[str, ViewTags] = {}
    faults: list[StudyError] = []
    others = 0
    for path in files:
        try:
            header = read_header(path)
            tags = read_view_tags(header) if header is not None and is_mammogram(header) else None
        except StudyError as error:
            faults.append(error)
            continue
        if tags is None:
            continue
        if tags.side not in {None, side}:
            others += 1
        elif tags.fault is not None:
            faults.append(tags.fault)
        else:
            # Downloads and exports may leave byte-identical copies of an instance.
            twin = candidates.setdefault(tags.header.sop_uid or str(path), tags)
            if twin is not tags and not filecmp.cmp(twin.path, path, shallow=False):
                raise StudyError("duplicate_slices", "one SOPInstanceUID stands in two files of different content")
    return list(candidates.values()), faults, others


def _check_one_exam(candidates: Sequence[ViewTags]) -> None:
    headers = [item.header for item in candidates]
    if len({_CBIS_SUFFIX.sub("", item.patient_id) for item in headers}) > 1:
        raise StudyError("several_patients", "the files at the row's path belong to more than one patient")
    if len({item.study_uid for item in headers if not _is_of_cbis(item)}) > 1:
        raise StudyError("several_studies", "the files at the row's path belong to more than one exam")


def _is_of_cbis(header: FileHeader) -> bool:
    """Whether it is a film of CBIS-DDSM, where each view has a PatientID and a study of its own."""
    return header.sop_class == SECONDARY_CAPTURE and bool(_CBIS_SUFFIX.search(header.patient_id))


def _rank(item: ViewTags) -> tuple[bool, bool, int, str, int, str]:
    """The greatest is taken first; the UID only makes the order the same at every reading."""
    number = item.header.instance_number or 0
    return (
        not item.synthetic,
        not item.partial,
        _INTENTS.index(item.intent),
        item.taken_at,
        number,
        item.header.sop_uid,
    )


def _why(taken: ViewTags, ranked: Sequence[ViewTags], place: int) -> str:
    """Say which of several images of a view was taken."""
    words = [f"one of {len(ranked)} images"]
    words += [f"the first {place} cannot be read"] if place else []
    words += ["synthesised from tomosynthesis"] if taken.synthetic else []
    words += ["part of the breast"] if taken.partial else []
    words.append({"presentation": "for presentation", "processing": "for processing", "film": "film"}[taken.intent])
    alike = [item for item in ranked[place + 1 :] if _rank(item)[:3] == _rank(taken)[:3]]
    words += ["the latest"] if any(item.taken_at < taken.taken_at for item in alike) else []
    words += ["the last by number"] if any(item.taken_at == taken.taken_at for item in alike) else []
    return ", ".join(words)
