"""What a mammogram's tags say of it: which breast and view, and whether it is a plain view of the whole breast.

Texts of tags are compared with closed lists and never kept, shown or told.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from shared.dicom.budget import read_tags
from shared.dicom.header import FileHeader, quiet_reader
from shared.errors import ExclusionReason, StudyError
from shared.types import Side

View = Literal["CC", "MLO"]
VIEWS: tuple[View, ...] = ("CC", "MLO")
Intent = Literal["presentation", "processing", "film"]
"""For Presentation, For Processing, or a digitised film, stored as a Secondary Capture."""

PRESENTATION = "1.2.840.10008.5.1.4.1.1.1.2"
PROCESSING = "1.2.840.10008.5.1.4.1.1.1.2.1"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
# Breast tomosynthesis, its projections for presentation and for processing, and slices that were stored as CT.
TOMOSYNTHESIS = frozenset(f"1.2.840.10008.5.1.4.1.1.{tail}" for tail in ("13.1.3", "13.1.4", "13.1.5", "2"))

# SNOMED CT and SNOMED-RT codes of PS3.16 CID 4014 and 4015.
_VIEW_CODES: dict[str, View] = {"399162004": "CC", "R-10242": "CC", "399368009": "MLO", "R-10226": "MLO"}
_VIEW_MEANINGS: dict[str, View] = {"CRANIOCAUDAL": "CC", "MEDIOLATERALOBLIQUE": "MLO"}
_MODIFIER_CODES: dict[str, ExclusionReason] = {
    **dict.fromkeys(("399163009", "R-102D6"), "magnified_view"),
    **dict.fromkeys(("399055006", "R-102D7"), "spot_view"),
    **dict.fromkeys(("399209000", "R-102D5"), "implant_displaced"),
}
# Nipple in profile, anterior compression, infra-mammary fold; all others show a part, or the breast rolled.
_PLAIN_MODIFIERS = frozenset({"442581004", "R-40AB3", "441752004", "P2-00161", "442593008", "R-40ABE"})
# ViewPosition as devices write it: a side, M or S for magnified or spot, ID for a displaced implant (MQSA's labels).
_POSITION = re.compile(r"(ID)?[LR]?(ID)?(M?)(S?)(CC|MLO)(ID)?")
_SLICES = frozenset({"TOMOSYNTHESIS", "TOMO_PROJ", "VOLUME", "SLAB"})
_SYNTHETIC = frozenset({"GENERATED_2D", "TOMO_2D"})
_CONTRAST = frozenset({"SUBTRACTION", "SUBTRACT", "RECOMBINED", "HIGH_ENERGY"})
_CONTACT = 1.3
"""Magnification from which on a view is no contact view: those have 1.0 to 1.1, magnified ones 1.5 to 2."""
_BITS_OF_A_MASK = 8
_MOST_TAGS = 1 << 22
_PIXELS = 0x7FE0_0010
_TAGS = [
    *("SOPClassUID", "ImageType", "PresentationIntentType", "PatientOrientation", "ImageLaterality", "Laterality"),
    *("SharedFunctionalGroupsSequence", "ViewCodeSequence", "ViewPosition", "NumberOfFrames", "SeriesDescription"),
    *("EstimatedRadiographicMagnificationFactor", "PaddleDescription", "PartialView", "BitsStored", "PixelSpacing"),
    *("ImagerPixelSpacing", "NominalScannedPixelSpacing", "AcquisitionDate", "AcquisitionTime", "ContentTime"),
]


@dataclass(frozen=True, slots=True)
class ViewTags:
    """One mammogram by its tags.

    `fault` says why it is no plain CC or MLO view; without one, `side` and `view` are known. `orientation` are the two
    values of PatientOrientation, the directions of rows and columns (PS3.3 C.7.6.1.1.1). `spacing_mm` is `(y, x)`.
    """

    path: Path = field(repr=False)
    header: FileHeader = field(repr=False)
    side: Side | None
    view: View | None
    fault: StudyError | None
    intent: Intent
    synthetic: bool
    partial: bool
    taken_at: str = field(repr=False)
    orientation: tuple[str, ...]
    spacing_mm: tuple[float, float] | None


def is_mammogram(header: FileHeader) -> bool:
    """Whether a DICOM file is an image of mammography, of whatever kind."""
    if header.sop_class in {SECONDARY_CAPTURE, "1.2.840.10008.5.1.4.1.1.2"}:
        return header.modality == "MG"
    return header.sop_class in {PRESENTATION, PROCESSING, *TOMOSYNTHESIS}


def read_view_tags(header: FileHeader) -> ViewTags | None:
    """Read the tags of a mammogram; None for a Secondary Capture that is a mask, a cut-out or a screenshot.

    Raises `StudyError` (`unreadable_file`) where the header is damaged.
    """
    try:
        with quiet_reader():
            dataset = read_tags(header.path, _TAGS, _PIXELS, _MOST_TAGS)
            return None if _is_beside(dataset) else _view_tags(header, dataset)
    except StudyError:
        raise
    except Exception:  # noqa: BLE001 - junk may raise any exception, whose text may contain tags
        raise StudyError("unreadable_file", "a mammogram's header is damaged or cut off; fetch it again") from None


def _view_tags(header: FileHeader, dataset: Any) -> ViewTags:
    fault: StudyError | None = None
    side, view = None, None
    try:
        _refuse_slices(header, dataset)
        side = _side(dataset)
        _refuse_special(dataset)
        view = _view(header, dataset)
    except StudyError as error:
        fault = error
    said = _words(dataset, "PresentationIntentType")
    intent: Intent = "processing" if "FOR PROCESSING" in said else "presentation"
    if not said and header.sop_class != PRESENTATION:
        intent = "film" if header.sop_class == SECONDARY_CAPTURE else "processing"
    taken_at = [*_words(dataset, "AcquisitionTime"), *_words(dataset, "ContentTime"), ""][0]
    return ViewTags(
        path=header.path,
        header=header,
        side=side,
        view=view,
        fault=fault,
        intent=intent,
        synthetic=bool(_SYNTHETIC & set(_words(dataset, "ImageType"))),
        partial="YES" in _words(dataset, "PartialView"),
        taken_at="".join(_words(dataset, "AcquisitionDate")) + taken_at,
        orientation=tuple(_words(dataset, "PatientOrientation")),
        spacing_mm=_spacing(dataset),
    )


def _words(dataset: Any, keyword: str) -> list[str]:
    """Values of a tag as texts in capitals, without blanks around them; none if it is missing or empty."""
    value = dataset.get(keyword)
    if value is None or value == "":
        return []
    values = [value] if isinstance(value, str) or not isinstance(value, Iterable) else value
    return [str(item).strip().upper() for item in values]


def _is_beside(dataset: Any) -> bool:
    """Whether it lies beside mammograms, as CBIS-DDSM's masks and cut-outs do; masks have 8 bits, films more."""
    if dataset.get("SOPClassUID") != SECONDARY_CAPTURE:
        return False
    title = " ".join(_words(dataset, "SeriesDescription"))
    return "MASK" in title or "CROPPED" in title or int(dataset.get("BitsStored") or 0) <= _BITS_OF_A_MASK


def _refuse_slices(header: FileHeader, dataset: Any) -> None:
    kinds = set(_words(dataset, "ImageType"))
    stack = header.frames > 1 or header.sop_class in TOMOSYNTHESIS
    if stack or (_SLICES & kinds and not _SYNTHETIC & kinds):
        raise StudyError("tomosynthesis", "slices, slabs and projections of tomosynthesis are not read; give 2D views")
    if _CONTRAST & kinds:
        raise StudyError("contrast_view", "an image of contrast mammography is not read; give the low-energy view")


def _side(dataset: Any) -> Side:
    """The breast by ImageLaterality, FrameLaterality and Laterality, of which all that are there must agree."""
    said = {*_words(dataset, "ImageLaterality"), *_words(dataset, "Laterality")}
    for group in dataset.get("SharedFunctionalGroupsSequence") or []:
        for anatomy in group.get("FrameAnatomySequence") or []:
            said.update(_words(anatomy, "FrameLaterality"))
    sides: dict[str, Side] = {"L": "left", "LEFT": "left", "R": "right", "RIGHT": "right"}
    named = {sides.get(word) for word in said}
    if not named or None in named:
        raise StudyError("no_laterality", "no tag names one breast; write ImageLaterality L or R into the file")
    if len(named) > 1:
        raise StudyError("no_laterality", "its tags name both breasts; write the true ImageLaterality into the file")
    return next(side for side in sides.values() if side in named)


def _refuse_special(dataset: Any) -> None:
    """Refuse magnified and spot views, and those with the implant pushed back: they show part of the breast."""
    reasons: list[ExclusionReason] = []
    for code in dataset.get("ViewCodeSequence") or []:
        for modifier in code.get("ViewModifierCodeSequence") or []:
            for value in _words(modifier, "CodeValue"):
                reasons += [] if value in _PLAIN_MODIFIERS else [_MODIFIER_CODES.get(value, "other_view")]
    position = _position(dataset)
    if position is not None:
        reasons += ["magnified_view"] if position[3] else []
        reasons += ["spot_view"] if position[4] else []
        reasons += ["implant_displaced"] if position[1] or position[2] or position[6] else []
    paddle = " ".join(_words(dataset, "PaddleDescription"))
    factor = dataset.get("EstimatedRadiographicMagnificationFactor")
    reasons += ["magnified_view"] if "MAG" in paddle or (factor and float(factor) > _CONTACT) else []
    reasons += ["spot_view"] if "SPOT" in paddle else []
    if reasons:
        raise StudyError(reasons[0], "it shows the breast in part, rolled or without its implant; give the plain view")


def _position(dataset: Any) -> re.Match[str] | None:
    return _POSITION.fullmatch(re.sub(r"[^A-Z]", "", "".join(_words(dataset, "ViewPosition"))))


def _view(header: FileHeader, dataset: Any) -> View:
    """CC or MLO by ViewCodeSequence and ViewPosition, which must agree where both are there.

    CBIS-DDSM's films have neither, but CC or MLO as their PatientOrientation.
    """
    said: set[View | None] = set()
    for code in dataset.get("ViewCodeSequence") or []:
        meaning = re.sub(r"[^A-Z]", "", "".join(_words(code, "CodeMeaning")))
        values = _words(code, "CodeValue")
        named = [_VIEW_CODES.get(value) for value in values] or [_VIEW_MEANINGS.get(meaning)]
        said.update(named)
    position = _position(dataset)
    if _words(dataset, "ViewPosition"):
        said.add(None if position is None else "CC" if position[5] == "CC" else "MLO")
    if not said and header.sop_class == SECONDARY_CAPTURE:
        orientation = _words(dataset, "PatientOrientation")
        said.update(view for view in VIEWS if orientation == [view])
    if not said:
        raise StudyError("no_view", "no tag names the view; write ViewPosition CC or MLO into the file")
    if len(said) > 1:
        raise StudyError("no_view", "its tags name several views; write the true ViewPosition into the file")
    view = said.pop()
    if view is None:
        raise StudyError("other_view", "it is neither a CC nor an MLO view, which are what is read")
    return view


def _spacing(dataset: Any) -> tuple[float, float] | None:
    """Pixels `(y, x)`, mm: in the breast if it is known (PixelSpacing), otherwise at the detector or on the film."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        values = _words(dataset, keyword)
        if len(values) == 2:  # noqa: PLR2004 - rows and columns
            return float(values[0]), float(values[1])
    return None
