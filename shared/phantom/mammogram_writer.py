"""Mammograms as a unit stores them: Digital Mammography X-Ray Image Storage, and the outlines as Secondary Capture.

Modules: DICOM PS3.3 A.26 (C.8.11.1 to C.8.11.7: DX series, anatomy, image, detector; mammography series and image).
Each centre writes in its own way: 12 to 16 bits, MONOCHROME1 at one, a window that is a sigmoid over the logarithm at
another, which also keeps the picture For Processing, compressed pixels at the external centre, codes of SNOMED CT or
of its older form, with or without a calibrated spacing.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    PYDICOM_IMPLEMENTATION_UID,
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from shared.phantom.dicom_writer import INJECTION_S, clock, make_uid, study_date
from shared.phantom.exam import Body
from shared.phantom.mammogram_image import MIDDLE, UNITS, Look, Unit, raw_counts, slope_of
from shared.phantom.mammogram_label import burn_in
from shared.phantom.mammograms import Mammogram

SYNTAXES = (RLELossless, JPEGLSLossless, JPEG2000Lossless)
"""At the centre that compresses, one after the other by patient: those that the installed libraries write."""
_VIEW_CODES = {
    "CC": ("399162004", "R-10242", "cranio-caudal"),
    "MLO": ("399368009", "R-10226", "medio-lateral oblique"),
}
_ORIENTATION = {
    ("left", "CC"): ["A", "R"],
    ("right", "CC"): ["P", "L"],
    ("left", "MLO"): ["A", "FR"],
    ("right", "MLO"): ["P", "FL"],
}
_TAKEN_S = INJECTION_S - 3600.0  # time of day of the first view


def write_breast(folder: Path, masks: Path, body: Body, pictures: list[Mammogram], look: Look, identity: str) -> None:
    """Write the views of one breast below `folder`, and the lesion's outlines, where it has one, below `masks`."""
    unit = UNITS[body.place.key]
    for picture in pictures:
        number = 1 + 2 * (picture.side == "right") + (picture.view == "MLO")
        pixels, window = presentation_pixels(picture, unit, look)
        ds = _describe(body, picture, unit, identity, number=number, raw=False)
        ds.WindowCenter, ds.WindowWidth = window
        if unit.window == "SIGMOID":
            ds.VOILUTFunction = "SIGMOID"
        _write(folder / _name(body, ds, number, raw=False), ds, pixels, _syntax(unit, body))
        if unit.raw:
            raw = _describe(body, picture, unit, identity, number=number, raw=True)
            counts = _turn(raw_counts(picture.measured, unit.bits), picture).astype("<u2")
            _write(folder / _name(body, raw, number, raw=True), raw, counts, ExplicitVRLittleEndian)
        if picture.lesion is not None:
            outlined = _outline(ds, picture, identity, number)
            mask = _turn(picture.lesion, picture).astype(np.uint8) * np.uint8(255)
            _write(masks / f"{picture.view}.dcm", outlined, mask, ExplicitVRLittleEndian)


def presentation_pixels(
    picture: Mammogram, unit: Unit, look: Look
) -> tuple[npt.NDArray[np.uint16], tuple[float, float]]:
    """Stored values of a picture For Presentation, turned as displayed, and the window's centre and width."""
    top = 2.0**unit.bits - 1.0
    if unit.window == "SIGMOID":
        low, high = picture.ends
        scale = 0.55 * top / (high - low)
        base = low - 0.2 * (high - low)
        values = scale * (picture.level - base)
        middle = scale * (low + MIDDLE * (high - low) - base)
        window = (round(middle, 1), round(4.0 * scale * (high - low) / slope_of(look), 1))
    else:
        values = top * picture.grey
        window = ((top + 1.0) / 2.0, top + 1.0)
    values = burn_in(_turn(values, picture), picture.side, picture.view, top, tilted=unit.compressed)
    if unit.inverted:
        values = top - values
    return np.clip(np.rint(values), 0.0, top).astype("<u2"), window


def _turn(values: npt.NDArray[Any], picture: Mammogram) -> npt.NDArray[Any]:
    """Chest wall to the right for a right breast."""
    return np.ascontiguousarray(values[:, ::-1] if picture.side == "right" else values)


def _syntax(unit: Unit, body: Body) -> str:
    return str(SYNTAXES[body.index % len(SYNTAXES)] if unit.compressed else ExplicitVRLittleEndian)


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item: Any = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _patient(body: Body, identity: str) -> Any:
    """Attributes of patient, study and equipment."""
    ds: Any = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = study_date(body)
    ds.StudyTime = clock(_TAKEN_S - 120.0)
    ds.AccessionNumber = ds.ReferringPhysicianName = ds.PatientBirthDate = ""
    ds.Modality = "MG"
    unit = UNITS[body.place.key]
    ds.Manufacturer, ds.ManufacturerModelName = unit.manufacturer, unit.model
    ds.InstitutionName = f"PHANTOM {body.place.site}"
    ds.StudyDescription = "PHANTOM MG BILATERAL"
    ds.PatientName, ds.PatientID = f"PHANTOM^{body.place.key} {body.index:03d}", body.patient_id
    ds.PatientSex, ds.PatientAge = "F", f"{body.labels.age:03d}Y"
    ds.StudyInstanceUID, ds.StudyID = make_uid("mammography study", identity), "2"
    ds.DeviceSerialNumber, ds.SoftwareVersions = "0", "1"
    return ds


def _describe(body: Body, picture: Mammogram, unit: Unit, identity: str, *, number: int, raw: bool) -> Any:
    """Header of one picture, without its pixels and window."""
    ds = _patient(body, identity)
    geometry, kind = picture.geometry, "PROCESSING" if raw else "PRESENTATION"
    ds.SOPClassUID = (
        DigitalMammographyXRayImageStorageForProcessing if raw else DigitalMammographyXRayImageStorageForPresentation
    )
    ds.SOPInstanceUID = make_uid("mammogram", identity, number, kind)
    ds.SeriesInstanceUID = make_uid("mammogram series", identity, kind)
    ds.SeriesNumber, ds.InstanceNumber, ds.AcquisitionNumber = (2 if raw else 1), number, number
    ds.SeriesTime = clock(_TAKEN_S)
    ds.AcquisitionTime = ds.ContentTime = clock(_TAKEN_S + 40.0 * number)
    side = "L" if picture.side == "left" else "R"
    ds.SeriesDescription = f"PHANTOM MG{' RAW' if raw else ''}"
    ds.ProtocolName = f"PHANTOM {side} {picture.view}"
    ds.ImageType = ["ORIGINAL", "PRIMARY", ""] if raw else ["DERIVED", "PRIMARY", ""]
    ds.PresentationIntentType = f"FOR {kind}"
    ds.ImageLaterality, ds.ViewPosition = side, picture.view
    ds.PatientOrientation = _ORIENTATION[picture.side, picture.view]
    ds.BodyPartExamined, ds.OrganExposed, ds.PositionerType = "BREAST", "BREAST", "MAMMOGRAPHIC"
    modern, old, meaning = _VIEW_CODES[picture.view]
    view = _code(old, "SRT", meaning) if unit.inverted else _code(modern, "SCT", meaning)
    view.ViewModifierCodeSequence = []
    ds.ViewCodeSequence = [view]
    ds.AnatomicRegionSequence = [
        _code("T-04000", "SRT", "Breast") if unit.inverted else _code("76752008", "SCT", "Breast")
    ]
    ds.BreastImplantPresent = "NO"
    ds.KVP = round(unit.kvp + (geometry.thickness - 50.0) / 10.0)
    ds.BodyPartThickness = round(geometry.thickness)
    ds.CompressionForce = round(160.0 - geometry.thickness)
    ds.AnodeTargetMaterial, ds.FilterMaterial = unit.target
    ds.DetectorType, ds.FieldOfViewShape = "DIRECT", "RECTANGLE"
    ds.FieldOfViewHorizontalFlip, ds.FieldOfViewRotation = "NO", 0
    ds.FieldOfViewOrigin = [0, 0]
    ds.ImagerPixelSpacing = [geometry.pixel, geometry.pixel]
    if unit.bits in {12, 16}:
        ds.PixelSpacing = ds.ImagerPixelSpacing
    ds.PixelIntensityRelationship, ds.PixelIntensityRelationshipSign = ("LIN", 1) if raw else ("LOG", -1)
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = 0, 1, "US"
    ds.LossyImageCompression, ds.BurnedInAnnotation = "00", "NO"
    ds.QualityControlImage = "NO"
    ds.AcquisitionContextSequence = []
    ds.SamplesPerPixel = 1
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, unit.bits, unit.bits - 1, 0
    inverted = raw or unit.inverted
    ds.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    ds.PresentationLUTShape = "INVERSE" if inverted else "IDENTITY"
    return ds


def _outline(image: Any, picture: Mammogram, identity: str, number: int) -> Any:
    """Header of the outline of an image, as those of CBIS-DDSM are: 8 bits, not zero within."""
    ds: Any = Dataset()
    kept = (
        "SpecificCharacterSet",
        "StudyDate",
        "StudyTime",
        "AccessionNumber",
        "ReferringPhysicianName",
        "PatientName",
    )
    also = ("PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyID", "PatientOrientation")
    for name in (*kept, *also, "BodyPartExamined"):
        setattr(ds, name, getattr(image, name))
    ds.SOPClassUID, ds.Modality, ds.ConversionType = SecondaryCaptureImageStorage, "MG", "WSD"
    ds.SOPInstanceUID = make_uid("mammogram outline", identity, number)
    ds.SeriesInstanceUID = make_uid("mammogram outlines", identity)
    ds.SeriesNumber, ds.InstanceNumber = 100, number
    ds.SeriesDescription = "PHANTOM ROI mask"
    ds.Manufacturer, ds.ManufacturerModelName = "FedBreast phantom", "PHANTOM"
    ds.Laterality = "L" if picture.side == "left" else "R"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    return ds


def _name(body: Body, ds: Any, number: int, *, raw: bool) -> Path:
    """Path of a picture below the breast's folder: every archive nests and names files in its own way."""
    return {
        "A": Path("MG", f"IM{number:04d}"),
        "B": Path(ds.StudyInstanceUID, ds.SeriesInstanceUID, f"{ds.SOPInstanceUID}.dcm"),
        "C": Path("DICOM", f"IM_{number:04d}"),
        "D": Path(f"{1 + raw}.000000-NA", f"1-{number}.dcm"),
    }[body.place.key]


def _write(path: Path, ds: Any, pixels: npt.NDArray[np.unsignedinteger], syntax: str) -> None:
    ds.Rows, ds.Columns = pixels.shape
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
    ds.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    if syntax == JPEG2000Lossless:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG2000", irreversible=False, no_jp2=True)
        ds.PixelData = encapsulate([stream.getvalue()])
        ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
        ds.file_meta.TransferSyntaxUID = JPEG2000Lossless
    elif syntax != ExplicitVRLittleEndian:
        ds.compress(syntax, pixels, generate_instance_uid=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, ds, enforce_file_format=True)
