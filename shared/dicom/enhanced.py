"""Enhanced MR: the frames of one file as headers of single slices, so that nothing behind this knows the difference.

Functional groups (PS3.3 C.7.6.16, C.8.13.5) of a frame, or shared by all, are put in the words of classic MR images. A
Legacy Converted object keeps the classic tags themselves (C.7.6.16.2.25).
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.filereader import _read_file_meta_info, read_preamble

from shared.dicom.budget import MOST_HEADER, BoundedFile
from shared.dicom.functional_groups import Got, Key, Walk, Wanted
from shared.dicom.header import TAGS, FileHeader, Frame, make_header, quiet_reader
from shared.dicom.values import numbers, text_of_bytes
from shared.errors import StudyError

MOST_FRAMES = 1 << 15
"""Of a file: the longest ultrafast series have some ten thousand."""
_A_FRAME = 1 << 15  # bytes of the tags of one frame; Philips has some ten thousand
_MOST_TAGS = 1 << 27  # bytes of the tags of all
PHILIPS = "Philips MR Imaging DD 001"
"""Owner of the block of private tags that has ScaleSlope."""
_SCALE: Key = (PHILIPS, 0x2005_000E)
_PHILIPS_FRAME: Key = ("Philips MR Imaging DD 005", 0x2005_000F)

_MACROS = {
    "PixelMeasuresSequence": ("PixelSpacing",),
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "FrameContentSequence": (
        *("FrameAcquisitionDateTime", "FrameAcquisitionDuration", "FrameAcquisitionNumber", "TemporalPositionIndex"),
    ),
    "TemporalPositionSequence": ("TemporalPositionTimeOffset",),
    "CardiacSynchronizationSequence": ("NominalCardiacTriggerDelayTime",),
    "FrameAnatomySequence": ("FrameLaterality",),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept"),
    "MRImageFrameTypeSequence": (
        *("FrameType", "ComplexImageComponent", "AcquisitionContrast", "VolumeBasedCalculationTechnique"),
    ),
    "MRTimingAndRelatedParametersSequence": ("RepetitionTime", "FlipAngle"),
    "MREchoSequence": ("EffectiveEchoTime",),
    "MRModifierSequence": ("InversionRecovery", "Spoiling"),
    "MRDiffusionSequence": ("DiffusionBValue",),
    "ContrastBolusUsageSequence": ("ContrastBolusAgentAdministered", "ContrastBolusAgentPhase"),
    "UnassignedSharedConvertedAttributesSequence": tuple(TAGS),
    "UnassignedPerFrameConvertedAttributesSequence": tuple(TAGS),
}
_RENAMED = {
    "TemporalPositionIndex": "TemporalPositionIdentifier",
    "FrameAcquisitionDateTime": "AcquisitionDateTime",
    "FrameAcquisitionNumber": "AcquisitionNumber",
    "EffectiveEchoTime": "EchoTime",
    "FrameLaterality": "ImageLaterality",
    "FrameType": "ImageType",
}
_IN_OTHER_UNITS = (
    ("FrameAcquisitionDuration", "AcquisitionDuration", 1e-3),
    ("NominalCardiacTriggerDelayTime", "TriggerTime", 1.0),
    ("TemporalPositionTimeOffset", "TriggerTime", 1e3),
)
_SEQUENCE: dict[str, tuple[tuple[str, frozenset[str], str], ...]] = {
    "ScanningSequence": (
        ("EchoPulseSequence", frozenset({"SPIN", "BOTH"}), "SE"),
        ("EchoPulseSequence", frozenset({"GRADIENT", "BOTH"}), "GR"),
        ("EchoPlanarPulseSequence", frozenset({"YES"}), "EP"),
        ("InversionRecovery", frozenset({"YES"}), "IR"),
    ),
    "SequenceVariant": (("Spoiling", frozenset({"RF", "GRADIENT", "RF_AND_GRADIENT"}), "SP"),),
    "ScanOptions": (("SpectrallySelectedSuppression", frozenset({"FAT", "FAT_AND_WATER"}), "FS"),),
}
"""Classic tags of the sequence: the term for a value that an attribute of enhanced MR has."""
_OF_THE_SEQUENCE = ("EchoPulseSequence", "EchoPlanarPulseSequence", "SpectrallySelectedSuppression")
_SHOWS = ("ComplexImageComponent", "AcquisitionContrast", "VolumeBasedCalculationTechnique")
_NO_PHASE = frozenset({"PHASE", "REAL", "IMAGINARY", "DIFFUSION", "MAX_IP", "MIN_IP", "MPR"})


def _tag(keyword: str) -> int:
    return int(tag_for_keyword(keyword) or 0)


def _keys(*keywords: str) -> Wanted:
    return {_tag(keyword): None for keyword in keywords}


_GROUPS: Wanted = {
    **{_tag(macro): _keys(*keywords) for macro, keywords in _MACROS.items()},
    _PHILIPS_FRAME: {_SCALE: None},
    _SCALE: None,
}
_SHARED, _PER_FRAME = _tag("SharedFunctionalGroupsSequence"), _tag("PerFrameFunctionalGroupsSequence")
_AGENTS, _PROFILE = _tag("ContrastBolusAgentSequence"), _tag("ContrastAdministrationProfileSequence")
_BOLUS = _tag("ContrastBolusStartTime")
_FILE = {keyword: _tag(keyword) for keyword in (*TAGS, *_OF_THE_SEQUENCE)}
_WANTED: Wanted = {
    **_keys(*_FILE),
    _AGENTS: {_PROFILE: _keys("ContrastBolusStartTime")},
    _SHARED: _GROUPS,
    _PER_FRAME: _GROUPS,
}


def split_frames(header: FileHeader) -> list[FileHeader]:
    """Headers of the frames of an enhanced MR object, each as if it were a slice in a file of its own.

    An object without functional groups has frames that lie nowhere, which cannot be put together.

    Raises
    ------
    StudyError
        `unreadable_file`: damaged or cut off, too many frames, or another number of them than is described.

    """
    if not 0 < header.frames <= MOST_FRAMES:
        raise StudyError("unreadable_file", f"a file claims {header.frames:.3g} frames, {MOST_FRAMES} are the most")
    try:
        with quiet_reader():
            return _read_frames(header.path, header.frames)
    except StudyError:
        raise
    except Exception:  # noqa: BLE001 - junk may raise any exception, whose text may contain tags
        raise StudyError("unreadable_file", "an enhanced object is damaged or cut off; fetch it again") from None


def _read_frames(path: Path, count: int) -> list[FileHeader]:
    most = min(MOST_HEADER + count * _A_FRAME, _MOST_TAGS)
    with BoundedFile(path, most + MOST_HEADER) as stream:
        read_preamble(stream, force=False)
        syntax = pydicom.uid.UID(_read_file_meta_info(stream).TransferSyntaxUID)
        if syntax.is_deflated:
            raise StudyError("unreadable_file", "a deflated file of several frames; export it plain")
        start = stream.tell()
        walk = Walk(stream.read(most), "<" if syntax.is_little_endian else ">", not syntax.is_implicit_VR, count + 1)
    top, length = walk.to_pixels(_WANTED)
    groups: list[Got] = top[_PER_FRAME] if _PER_FRAME in top else [{}] * count
    if len(groups) != count or length < count:
        raise StudyError("unreadable_file", "an enhanced object describes another number of frames than it claims")
    charset = _texts(top, walk.order)["SpecificCharacterSet"]
    file = _texts(top, walk.order, charset)
    file["ContrastBolusStartTime"] = file["ContrastBolusStartTime"] or _bolus(top, walk.order)
    shared = _flat((top.get(_SHARED) or [{}])[0], walk.order, charset)
    said = [{**shared, **_flat(group, walk.order, charset)} for group in groups]
    places = Counter(frame.get("ImagePositionPatient", "") for frame in said)
    if max(places.values()) > 1:  # several phases: the file's times are those of its first
        begun = file["AcquisitionTime"] or file["AcquisitionDateTime"][8:] or file["SeriesTime"]
        file.update(SeriesTime=begun, AcquisitionTime="", AcquisitionDateTime="", ContentTime="")
    agent = file["ContrastBolusAgent"] or ("AGENT" if top.get(_AGENTS) else "")
    headers = []
    for number, frame in enumerate(said):
        texts = _classic(file, frame, agent)
        if "InstanceNumber" not in frame:
            instance = next(iter(numbers(file["InstanceNumber"])), 0)
            texts["InstanceNumber"] = str(int(instance) * MOST_FRAMES + number + 1)
        headers.append(make_header(path, texts, Frame(number, start + walk.at, length, *_scale(frame))))
    return headers


def _texts(got: Got, order: str, charset: str = "") -> dict[str, str]:
    """Texts of the file's own tags by keyword, empty where it has none."""
    return {keyword: _text(tag, got.get(tag), order, charset) for keyword, tag in _FILE.items()}


def _text(tag: int, stored: tuple[str, bytes] | None, order: str, charset: str) -> str:
    return "" if stored is None else text_of_bytes(tag, stored[0], stored[1], order, charset)


def _bolus(top: Got, order: str) -> str:
    for agent in top.get(_AGENTS) or []:
        for given in agent.get(_PROFILE) or []:
            return _text(_BOLUS, given.get(_BOLUS), order, "")
    return ""


def _flat(group: Got, order: str, charset: str) -> dict[str, str]:
    """Texts that stand in a frame's functional groups, by keyword, and Philips' scale."""
    flat: dict[str, str] = {}
    for macro, keywords in _MACROS.items():
        for item in group.get(_tag(macro)) or []:
            texts = {keyword: _text(_tag(keyword), item.get(_tag(keyword)), order, charset) for keyword in keywords}
            flat.update({keyword: text for keyword, text in texts.items() if text})
    for item in [group, *(group.get(_PHILIPS_FRAME) or [])]:
        if _SCALE in item:
            vr, value = item[_SCALE]
            flat["ScaleSlope"] = text_of_scale(vr, value, order)
    return flat


def text_of_scale(vr: str, value: bytes, order: str) -> str:
    """Text of Philips' ScaleSlope; a private tag's kind of number is unknown where the file does not say it."""
    return text_of_bytes(0, "FL" if vr in {"", "UN"} else vr, value, order)


def _classic(file: dict[str, str], frame: dict[str, str], agent: str) -> dict[str, str]:
    """The texts of one frame by the keywords of a classic MR image."""
    texts = {**file, "AcquisitionDuration": "", "ContrastBolusAgent": agent}
    if "FrameAcquisitionDateTime" in frame:
        texts["AcquisitionTime"] = ""
    texts.update({_RENAMED.get(keyword, keyword): text for keyword, text in frame.items()})
    for source, target, scale in _IN_OTHER_UNITS:
        if value := numbers(frame.get(source, "")):
            texts[target] = repr(value[0] * scale)
    for keyword, terms in _SEQUENCE.items():
        if not texts.get(keyword):
            texts[keyword] = "\\".join(term for said, words, term in terms if texts.get(said, "") in words)
    kinds = texts["ImageType"].split("\\")
    before = "PRE_CONTRAST" in {*kinds, frame.get("ContrastBolusAgentPhase")}
    given = frame.get("ContrastBolusAgentAdministered")
    if before or given == "NO":
        texts["ContrastBolusAgent"] = "NONE"
    elif "POST_CONTRAST" in kinds or given == "YES":
        texts["ContrastBolusAgent"] = agent or "AGENT"
    # What the agent's tags say is no kind of image; what a frame shows is.
    shows = (frame.get(keyword, "") for keyword in _SHOWS)
    kinds = [kind for kind in kinds if kind not in {"PRE_CONTRAST", "POST_CONTRAST"}]
    texts["ImageType"] = "\\".join([*kinds, *(kind for kind in shows if kind in _NO_PHASE)])
    return texts


def _scale(frame: dict[str, str]) -> tuple[float, float, float | None]:
    """Slope, intercept and Philips' scale of a frame's values; not a number where it is none."""
    slope, intercept, scale = (
        (*numbers(frame[keyword]), math.nan)[0] if keyword in frame else None
        for keyword in ("RescaleSlope", "RescaleIntercept", "ScaleSlope")
    )
    return 1.0 if slope is None else slope, intercept or 0.0, scale
