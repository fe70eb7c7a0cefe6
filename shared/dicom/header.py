"""Header of one DICOM file, without its pixels.

Only the tags in `TAGS` are parsed, so names, dates of birth and free text are never read. Values are taken as raw
bytes, because the warnings of pydicom's own conversion contain the value, which could put an identifier into a log.
"""

from __future__ import annotations

import contextlib
import logging
import math
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.multival import MultiValue

from shared.dicom.budget import MOST_HEADER, read_tags
from shared.errors import StudyError

MR_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_MR_STORAGE = ("1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.4")

_KEYWORDS = (
    *("ImageType", "SOPClassUID", "SOPInstanceUID", "StudyDate", "SeriesTime", "AcquisitionTime", "ContentTime"),
    *("AcquisitionDateTime", "AccessionNumber", "Modality", "Manufacturer", "PatientID", "ContrastBolusAgent"),
    *("ScanningSequence", "RepetitionTime", "EchoTime", "FlipAngle", "MagneticFieldStrength", "TriggerTime"),
    *("ContrastBolusStartTime", "DiffusionBValue", "AcquisitionDuration", "StudyInstanceUID", "SeriesInstanceUID"),
    *("SeriesNumber", "AcquisitionNumber", "InstanceNumber", "ImagePositionPatient", "ImageOrientationPatient"),
    *("Laterality", "ImageLaterality", "TemporalPositionIdentifier", "TemporalResolution", "NumberOfFrames"),
    *("Rows", "Columns", "PixelSpacing"),
    *("SequenceVariant", "ScanOptions"),
)
TAGS: dict[str, int] = {keyword: int(tag_for_keyword(keyword) or 0) for keyword in _KEYWORDS}
_DOUBLES = frozenset({TAGS["AcquisitionDuration"], TAGS["DiffusionBValue"]})  # VR FD is binary, the others are text
_MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"  # SOP class of a DICOMDIR, which has it only in the file meta information
_MAX_PIXELS = 2**26  # a digitised film has some 40 million
_HIGHEST_TESLA = 100.0


@dataclass(frozen=True, slots=True)
class FileHeader:
    """Tags of one image file; identifying fields are not in its `repr`.

    `trigger_s`, `duration_s` and `temporal_resolution_s` are seconds, other times seconds since midnight; lengths are
    in mm. A missing or unreadable tag is None (numbers) or empty (text).
    """

    path: Path = field(repr=False)
    patient_id: str = field(repr=False)
    study_uid: str = field(repr=False)
    study_date: str = field(repr=False)
    accession: str = field(repr=False)
    series_uid: str = field(repr=False)
    sop_uid: str = field(repr=False)
    sop_class: str
    modality: str
    image_type: tuple[str, ...]
    laterality: str
    rows: int
    columns: int
    frames: int
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    pixel_spacing: tuple[float, ...] | None
    series_number: int | None
    acquisition_number: int | None
    instance_number: int | None
    temporal_position: int | None
    trigger_s: float | None
    acquired_s: float | None
    content_s: float | None
    series_s: float | None
    bolus_s: float | None
    duration_s: float | None
    temporal_resolution_s: float | None
    has_contrast: bool
    diffusion: bool
    sequence: str
    variants: tuple[str, ...]  # values of SequenceVariant, sorted
    options: tuple[str, ...]  # of ScanOptions
    repetition_ms: float | None
    echo_ms: float | None
    flip_deg: float | None
    field_strength_t: float | None
    manufacturer: str


@contextlib.contextmanager
def quiet_reader() -> Iterator[None]:
    """Silence pydicom while it reads, as its warnings and log lines contain the values of tags."""
    logger = logging.getLogger("pydicom")
    disabled = logger.disabled
    logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = disabled


def parse_header(path: Path) -> FileHeader | None:
    """Read the header of a file with the DICM mark; None for a DICOMDIR.

    Raises `StudyError` (`unreadable_file`) if it is damaged, cut off or has an impossible size.
    """
    try:
        with quiet_reader():
            dataset = read_tags(path, list(TAGS.values()), max(TAGS.values()) + 1, MOST_HEADER)
            rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
            media_class = str(dataset.file_meta.get("MediaStorageSOPClassUID", ""))
        texts = {keyword: _text(dataset, tag) for keyword, tag in TAGS.items() if keyword not in {"Rows", "Columns"}}
    except StudyError:
        raise
    except Exception:  # noqa: BLE001 - junk may raise any exception, whose text may contain tags
        raise StudyError("unreadable_file", "a DICOM header is damaged or cut off; fetch the file again") from None
    if _MEDIA_DIRECTORY in media_class:
        return None
    if not texts["SOPClassUID"]:
        raise StudyError("unreadable_file", "a DICOM file has no SOP class; its header is cut off")
    # A header that is cut off inside a value has a shorter value and raises no error: compare it with the file meta.
    if media_class == MR_IMAGE_STORAGE and (texts["SOPClassUID"] != media_class or not rows * columns):
        raise StudyError("unreadable_file", "an MR image's header is cut off before the pixels; fetch the file again")
    if rows * columns > _MAX_PIXELS:
        raise StudyError(
            "unreadable_file", f"an image claims {rows} x {columns} pixels, more than any MR slice or mammogram"
        )
    return _header(path, texts, rows, columns)


def _header(path: Path, texts: dict[str, str], rows: int, columns: int) -> FileHeader:
    number = {keyword: _numbers(value) for keyword, value in texts.items()}

    def one(keyword: str, scale: float = 1.0) -> float | None:
        values = number[keyword]
        return values[0] * scale if values else None

    def whole(keyword: str) -> int | None:
        value = one(keyword)
        return None if value is None else int(value)

    sequence = "\\".join(sorted(part.strip() for part in texts["ScanningSequence"].upper().split("\\")))
    # AcquisitionDateTime is YYYYMMDDHHMMSS.ffffff (PS3.5 6.2, DT); the other tags have only a time of day.
    acquired = _time_of_day(texts["AcquisitionTime"])
    if acquired is None:
        acquired = _time_of_day(texts["AcquisitionDateTime"][8:])
    return FileHeader(
        path=path,
        patient_id=texts["PatientID"],
        study_uid=texts["StudyInstanceUID"],
        study_date=texts["StudyDate"],
        accession=texts["AccessionNumber"],
        series_uid=texts["SeriesInstanceUID"],
        sop_uid=texts["SOPInstanceUID"],
        sop_class=texts["SOPClassUID"],
        modality=texts["Modality"].upper(),
        image_type=tuple(part.strip() for part in texts["ImageType"].upper().split("\\")),
        laterality=(texts["ImageLaterality"] or texts["Laterality"]).upper(),
        rows=rows,
        columns=columns,
        frames=whole("NumberOfFrames") or 1,
        position=_exactly(number["ImagePositionPatient"], 3),
        orientation=_exactly(number["ImageOrientationPatient"], 6),
        pixel_spacing=_exactly(number["PixelSpacing"], 2),
        series_number=whole("SeriesNumber"),
        acquisition_number=whole("AcquisitionNumber"),
        instance_number=whole("InstanceNumber"),
        temporal_position=whole("TemporalPositionIdentifier"),
        trigger_s=one("TriggerTime", 1e-3),
        acquired_s=acquired,
        content_s=_time_of_day(texts["ContentTime"]),
        series_s=_time_of_day(texts["SeriesTime"]),
        bolus_s=_time_of_day(texts["ContrastBolusStartTime"]),
        duration_s=one("AcquisitionDuration"),
        temporal_resolution_s=one("TemporalResolution", 1e-3),
        has_contrast=texts["ContrastBolusAgent"].upper() not in {"", "NONE", "NO", "N"},
        diffusion=bool(number["DiffusionBValue"]) or "EP" in sequence.split("\\"),
        sequence=sequence,
        variants=_terms(texts["SequenceVariant"]),
        options=_terms(texts["ScanOptions"]),
        repetition_ms=one("RepetitionTime"),
        echo_ms=one("EchoTime"),
        flip_deg=one("FlipAngle"),
        field_strength_t=_tesla(one("MagneticFieldStrength")),
        manufacturer=normalise_manufacturer(texts["Manufacturer"]),
    )


def _terms(text: str) -> tuple[str, ...]:
    """Values of a tag of several terms, sorted, without NONE."""
    return tuple(sorted({part.strip() for part in text.upper().split("\\")} - {"", "NONE"}))


def normalise_manufacturer(text: str) -> str:
    """Vendor for stratified reports: one of a closed list, `unknown` if blank, `OTHER` for all others."""
    upper = text.upper()
    if not upper.strip():
        return "unknown"
    for vendor in ("SIEMENS", "PHILIPS", "TOSHIBA", "CANON", "HITACHI", "FUJIFILM", "HOLOGIC", "UNITED IMAGING"):
        if vendor in upper:
            return vendor
    return "GE" if upper.strip() == "GE" or upper.startswith(("GE ", "GE_", "GEMS", "GENERAL ELECTRIC")) else "OTHER"


def _text(dataset: pydicom.Dataset, tag: int) -> str:
    """Raw value of a tag as text, multiple values separated by backslashes as in DICOM; empty if missing."""
    element: Any = dataset.get_item(tag) if tag in dataset else None
    value = None if element is None else element.value
    if isinstance(value, bytes) and tag in _DOUBLES:
        order = "<" if element.is_little_endian else ">"
        return "\\".join(repr(item[0]) for item in struct.iter_unpack(f"{order}d", value))
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace").strip(" \0\r\n\t")
    if value is None:
        return ""
    return "\\".join(str(item) for item in value) if isinstance(value, (list, MultiValue)) else str(value)


def _numbers(text: str) -> tuple[float, ...]:
    """Numbers in a text with backslashes; empty if any of them is no finite number."""
    try:
        values = tuple(float(part) for part in text.split("\\"))
    except ValueError:
        return ()
    return values if all(math.isfinite(value) for value in values) else ()


def _exactly(values: tuple[float, ...], count: int) -> tuple[float, ...] | None:
    return values if len(values) == count else None


def _time_of_day(text: str) -> float | None:
    """Seconds since midnight of a DICOM TM value, `HHMMSS.ffffff` or the retired `HH:MM:SS` (PS3.5 6.2)."""
    digits, _, fraction = text.strip().replace(":", "").partition(".")
    fraction = fraction[: len(fraction) - len(fraction.lstrip("0123456789"))]
    if not digits.isdecimal() or not digits.isascii() or len(digits) not in {2, 4, 6}:
        return None
    hours, minutes, seconds = (int(digits[at : at + 2] or 0) for at in (0, 2, 4))
    return hours * 3600.0 + minutes * 60.0 + seconds + float(f"0.{fraction or 0}")


def _tesla(value: float | None) -> float | None:
    """Field strength in tesla; some old scanners wrote gauss."""
    if value is None or value <= 0:
        return None
    return value / 10_000.0 if value > _HIGHEST_TESLA else value
