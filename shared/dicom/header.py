"""Header of one DICOM file, without its pixels.

Only the tags in `TAGS` are parsed, so names, dates of birth and free text are never read. Values are taken as raw
bytes, because the warnings of pydicom's own conversion contain the value, which could put an identifier into a log.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.datadict import tag_for_keyword

from shared.dicom.budget import MOST_HEADER, read_tags
from shared.dicom.values import exactly, normalise_manufacturer, numbers, tesla, text_of, time_of_day
from shared.errors import StudyError

MR_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_MR_STORAGE = ("1.2.840.10008.5.1.4.1.1.4.1", "1.2.840.10008.5.1.4.1.1.4.4")

_KEYWORDS = (
    *("SpecificCharacterSet", "ImageType", "SOPClassUID", "SOPInstanceUID", "StudyDate", "SeriesTime"),
    *("AcquisitionTime", "ContentTime", "AcquisitionDateTime", "AccessionNumber", "Modality", "Manufacturer"),
    *("PatientID", "ContrastBolusAgent"),
    *("ScanningSequence", "RepetitionTime", "EchoTime", "FlipAngle", "MagneticFieldStrength", "TriggerTime"),
    *("ContrastBolusStartTime", "DiffusionBValue", "AcquisitionDuration", "StudyInstanceUID", "SeriesInstanceUID"),
    *("SeriesNumber", "AcquisitionNumber", "InstanceNumber", "ImagePositionPatient", "ImageOrientationPatient"),
    *("Laterality", "ImageLaterality", "TemporalPositionIdentifier", "TemporalResolution", "NumberOfFrames"),
    *("Rows", "Columns", "PixelSpacing"),
    *("SequenceVariant", "ScanOptions"),
)
TAGS: dict[str, int] = {keyword: int(tag_for_keyword(keyword) or 0) for keyword in _KEYWORDS}
_MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"  # SOP class of a DICOMDIR, which has it only in the file meta information
_MAX_PIXELS = 2**26  # a digitised film has some 40 million
_HIGHEST_B = 1e6  # s/mm2; a tool writes 7e75 where there was no value


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a multi-frame file: its place, and what the file's functional groups say of its values.

    `pixels_at` and `pixels_length` are where the file's pixels begin, and their bytes (`0xFFFFFFFF`: compressed).
    `scale_slope` is Philips' own, see `pixels`.
    """

    index: int
    pixels_at: int
    pixels_length: int
    slope: float
    intercept: float
    scale_slope: float | None


@dataclass(frozen=True, slots=True)
class FileHeader:
    """Tags of one image file, or of one `frame` of a file; identifying fields are not in its `repr`.

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
    frame: Frame | None
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
            media_class = str(dataset.file_meta.get("MediaStorageSOPClassUID", ""))
            charset = text_of(dataset.get_item(TAGS["SpecificCharacterSet"]))
            texts = {keyword: text_of(dataset.get_item(tag), charset) for keyword, tag in TAGS.items()}
        header = make_header(path, texts)
    except StudyError:
        raise
    except Exception:  # noqa: BLE001 - junk may raise any exception, whose text may contain tags
        raise StudyError("unreadable_file", "a DICOM header is damaged or cut off; fetch the file again") from None
    if _MEDIA_DIRECTORY in media_class:
        return None
    if not header.sop_class:
        raise StudyError("unreadable_file", "a DICOM file has no SOP class; its header is cut off")
    # A header that is cut off inside a value has a shorter value and raises no error: compare it with the file meta.
    is_mr = media_class in {MR_IMAGE_STORAGE, *ENHANCED_MR_STORAGE}
    if is_mr and (header.sop_class != media_class or not header.rows * header.columns):
        raise StudyError("unreadable_file", "an MR image's header is cut off before the pixels; fetch the file again")
    if header.rows * header.columns > _MAX_PIXELS:
        raise StudyError(
            "unreadable_file",
            f"an image claims {header.rows} x {header.columns} pixels, more than any MR slice or mammogram",
        )
    return header


def make_header(path: Path, texts: Mapping[str, str], frame: Frame | None = None) -> FileHeader:
    """Header of the texts of all `TAGS` by keyword, of which any may be empty; `frame` if it is one of a file."""
    number = {keyword: numbers(texts[keyword]) for keyword in TAGS}

    def one(keyword: str, scale: float = 1.0) -> float | None:
        values = number[keyword]
        return values[0] * scale if values else None

    def whole(keyword: str) -> int | None:
        value = one(keyword)
        return None if value is None else int(value)

    sequence = "\\".join(sorted(part.strip() for part in texts["ScanningSequence"].upper().split("\\")))
    # AcquisitionDateTime is YYYYMMDDHHMMSS.ffffff (PS3.5 6.2, DT); the other tags have only a time of day.
    acquired = time_of_day(texts["AcquisitionTime"])
    if acquired is None:
        acquired = time_of_day(texts["AcquisitionDateTime"][8:])
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
        rows=max(whole("Rows") or 0, 0),
        columns=max(whole("Columns") or 0, 0),
        frames=whole("NumberOfFrames") or 1,
        frame=frame,
        position=exactly(number["ImagePositionPatient"], 3),
        orientation=exactly(number["ImageOrientationPatient"], 6),
        pixel_spacing=exactly(number["PixelSpacing"], 2),
        series_number=whole("SeriesNumber"),
        acquisition_number=whole("AcquisitionNumber"),
        instance_number=whole("InstanceNumber"),
        temporal_position=whole("TemporalPositionIdentifier"),
        trigger_s=one("TriggerTime", 1e-3),
        acquired_s=acquired,
        content_s=time_of_day(texts["ContentTime"]),
        series_s=time_of_day(texts["SeriesTime"]),
        bolus_s=time_of_day(texts["ContrastBolusStartTime"]),
        duration_s=one("AcquisitionDuration"),
        temporal_resolution_s=one("TemporalResolution", 1e-3),
        has_contrast=texts["ContrastBolusAgent"].upper() not in {"", "NONE", "NO", "N"},
        diffusion=any(0 < value < _HIGHEST_B for value in number["DiffusionBValue"]) or "EP" in sequence.split("\\"),
        sequence=sequence,
        variants=_terms(texts["SequenceVariant"]),
        options=_terms(texts["ScanOptions"]),
        repetition_ms=one("RepetitionTime"),
        echo_ms=one("EchoTime"),
        flip_deg=one("FlipAngle"),
        field_strength_t=tesla(one("MagneticFieldStrength")),
        manufacturer=normalise_manufacturer(texts["Manufacturer"]),
    )


def _terms(text: str) -> tuple[str, ...]:
    """Values of a tag of several terms, sorted, without NONE."""
    return tuple(sorted({part.strip() for part in text.upper().split("\\")} - {"", "NONE"}))
