"""A phantom exam as a scanner would store it: MR Image Storage slices.

Attributes: DICOM PS3.3 C.7.6.2 (image plane), C.7.6.4 (contrast/bolus), C.8.3.1 (MR image). Each centre writes as its
vendor does: one series per phase, or one series whose phases differ in TemporalPositionIdentifier and TriggerTime;
axial, flipped or sagittal; with or without a rescale slope; in its own nesting of folders.
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, ExplicitVRLittleEndian, MRImageStorage

from shared.phantom.centres import CENTRES
from shared.phantom.exam import Body, PhantomExam

_IMAGE_TYPES = {
    "A": ["ORIGINAL", "PRIMARY", "M", "ND"],
    "B": ["ORIGINAL", "PRIMARY", "OTHER"],
    "C": ["ORIGINAL", "PRIMARY", "M_FFE", "M", "FFE"],
    "D": ["ORIGINAL", "PRIMARY", "M", "ND", "NORM"],
}
INJECTION_S = 10 * 3600 + 12 * 60 + 30  # time of day of the contrast injection, seconds


@dataclass(frozen=True, slots=True)
class Plane:
    """Orientation of the slices: the volume axis that they are cut along, and which of their axes are stored reversed.

    `orientation` is ImageOrientationPatient; `descending` stores the last slice first.
    """

    orientation: tuple[float, float, float, float, float, float]
    axis: int  # of (z, y, x)
    reverse_rows: bool
    reverse_columns: bool
    descending: bool

    def slices_of(self, volume: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Cut a volume `(z, y, x)` into the stored images `(slice, row, column)`, slices in ascending order."""
        turned = np.moveaxis(volume, self.axis, 0)
        return turned[:, :: -1 if self.reverse_rows else 1, :: -1 if self.reverse_columns else 1]


PLANES = {
    "axial": Plane((1.0, 0.0, 0.0, 0.0, 1.0, 0.0), 0, reverse_rows=False, reverse_columns=False, descending=False),
    # Patient prone, images rotated by 180 degrees.
    "axial_flipped": Plane(
        (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0), 0, reverse_rows=True, reverse_columns=True, descending=True
    ),
    # The column index grows to posterior, the row index to the feet.
    "sagittal": Plane((0.0, 1.0, 0.0, 0.0, 0.0, -1.0), 2, reverse_rows=True, reverse_columns=False, descending=False),
}


def make_uid(*parts: object) -> str:
    """UID under the root `2.25.` from a hash of its parts (PS3.5 B.2): an exam has the same UIDs on every machine."""
    digest = hashlib.sha256("|".join(map(str, parts)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big') % 2**122}"


def clock(seconds: float) -> str:
    """Time of day in seconds as DICOM TM."""
    whole = int(seconds)
    return f"{whole // 3600:02d}{whole // 60 % 60:02d}{whole % 60:02d}.{round((seconds - whole) * 100) % 100:02d}0000"


def study_date(exam: PhantomExam | Body) -> str:
    """Date of the exam as DICOM DA: a hash of the patient spreads the exams over five years."""
    number = int.from_bytes(hashlib.sha256(exam.patient_id.encode()).digest()[:4], "big")
    return f"{2018 + number % 5}{1 + number // 5 % 12:02d}{1 + number // 60 % 28:02d}"


def _common(exam: PhantomExam, identity: str) -> pydicom.Dataset:
    """Attributes that every image of the exam shares."""
    centre, protocol = CENTRES[exam.centre], exam.protocol
    ds: Any = pydicom.Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = _IMAGE_TYPES[exam.centre]
    ds.SOPClassUID = MRImageStorage
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = study_date(exam)
    ds.StudyTime = clock(INJECTION_S - 300.0)
    ds.AccessionNumber = ""
    ds.Modality = "MR"
    ds.Manufacturer, ds.ManufacturerModelName = centre.manufacturer, centre.model
    ds.InstitutionName = f"PHANTOM {centre.site}"
    ds.ReferringPhysicianName = ""
    ds.StudyDescription = "PHANTOM MR BREAST"
    ds.PatientName, ds.PatientID = f"PHANTOM^{exam.centre} {exam.index:03d}", exam.patient_id
    ds.PatientBirthDate, ds.PatientSex, ds.PatientAge = "", "F", f"{exam.labels.age:03d}Y"
    ds.BodyPartExamined = "BREAST"
    ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions, ds.MRAcquisitionType = "GR", "SP", "FS", "3D"
    ds.RepetitionTime, ds.EchoTime = round(protocol.repetition_ms, 3), round(protocol.echo_ms, 3)
    ds.FlipAngle, ds.EchoTrainLength, ds.NumberOfAverages = round(protocol.flip_deg, 2), 1, 1
    ds.MagneticFieldStrength, ds.ImagedNucleus = centre.field_strength_t, "1H"
    ds.PatientPosition = "HFP"
    ds.StudyInstanceUID = make_uid("study", identity)
    ds.FrameOfReferenceUID = make_uid("frame of reference", identity)
    ds.PositionReferenceIndicator = ""
    ds.StudyID = "1"
    if centre.orientation == "sagittal":
        ds.Laterality = "L" if exam.side == "left" else "R"
    else:
        ds.ImageLaterality = "B"  # both; Laterality itself knows only L and R
    return ds


def _image_plane(ds: Any, exam: PhantomExam, plane: Plane) -> None:
    """Set orientation, spacing and the description of the pixels."""
    z, y, x = exam.grid.spacing
    row, column, through = (z, y, x) if plane.axis == 2 else (y, x, z)  # noqa: PLR2004 - slices along x
    ds.ImageOrientationPatient = list(plane.orientation)
    ds.PixelSpacing = [round(row, 6), round(column, 6)]
    ds.SliceThickness = ds.SpacingBetweenSlices = round(through, 6)
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = plane.slices_of(exam.lesion).shape[1:]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.WindowCenter, ds.WindowWidth = 700, 1400
    if CENTRES[exam.centre].series == "single":
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = 0, exam.slope, "normalized"


def _set_phase(ds: Any, exam: PhantomExam, phase: int) -> None:
    """Set the time and contrast tags of one phase as this centre's vendor writes them."""
    series = CENTRES[exam.centre].series
    start = INJECTION_S + exam.times_s[0]
    acquired = INJECTION_S + exam.times_s[phase]
    single = series == "single"
    ds.SeriesTime = ds.AcquisitionTime = clock(start if single else acquired)
    ds.ContentTime = clock(acquired)
    if series != "per_phase_untimed":
        ds.TemporalPositionIdentifier, ds.NumberOfTemporalPositions = phase + 1, len(exam.times_s)
    if single:
        # Philips writes it for every dynamic scan, the standard only for gated ones.
        ds.TriggerTime = round((acquired - start) * 1000.0, 1)
    if phase or single:
        ds.ContrastBolusAgent, ds.ContrastBolusRoute = "PHANTOM GADOLINIUM", "IV"
        ds.ContrastBolusStartTime = clock(INJECTION_S)
        ds.ContrastBolusVolume = 14.0
    ds.AcquisitionNumber = 1 if single else phase + 1
    ds.SeriesNumber = 5 if single else 5 + phase
    ds.SeriesDescription = "PHANTOM dyn" if single else f"PHANTOM dyn {'pre' if phase == 0 else f'post {phase}'}"


def slice_path(centre: str, phase: int, ds: Any) -> Path:
    """Path of a slice below the patient's folder: every archive nests and names files in its own way."""
    return {
        "A": Path(f"S{5 + phase:04d}", f"IM{ds.InstanceNumber:04d}"),
        "B": Path(ds.StudyInstanceUID, ds.SeriesInstanceUID, f"{ds.SOPInstanceUID}.dcm"),
        "C": Path("DICOM", f"IM_{ds.InstanceNumber:04d}"),
        "D": Path("MR BREAST PHANTOM", f"{5 + phase}.000000-dyn", f"1-{ds.InstanceNumber:03d}.dcm"),
    }[centre]


def write_series(folder: Path, exam: PhantomExam, identity: str) -> list[pydicom.Dataset]:
    """Write all phases below `folder`; return the images of the first post-contrast phase, to which the mask refers.

    Every UID is a hash of `identity`, which stands for settings and patient.
    """
    centre = CENTRES[exam.centre]
    plane = PLANES[centre.orientation]
    single = centre.series == "single"
    count = exam.grid.shape[plane.axis]
    common: Any = _common(exam, identity)
    _image_plane(common, exam, plane)
    references: list[pydicom.Dataset] = []
    for phase, volume in enumerate(exam.phases):
        stored = np.rint(plane.slices_of(volume) / exam.slope).astype("<u2")
        template: Any = copy.deepcopy(common)
        _set_phase(template, exam, phase)
        template.SeriesInstanceUID = make_uid("series", identity, 0 if single else phase)
        series_label = make_uid("instance", identity, phase)
        template.file_meta = FileMetaDataset()
        template.file_meta.MediaStorageSOPClassUID = MRImageStorage
        template.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        template.file_meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID
        for number in range(count):
            index = count - 1 - number if plane.descending else number
            template.SOPInstanceUID = template.file_meta.MediaStorageSOPInstanceUID = make_uid(series_label, number)
            template.InstanceNumber = number + 1 + (phase * count if single else 0)
            position = _slice_position(exam, plane, index)
            template.ImagePositionPatient = [round(value, 4) for value in position]
            template.SliceLocation = round(position[2 - plane.axis], 4)
            template.PixelData = stored[index].tobytes()
            path = folder / slice_path(exam.centre, phase, template)
            if number == 0:
                path.parent.mkdir(parents=True, exist_ok=True)
            pydicom.dcmwrite(path, template, enforce_file_format=True)
            if phase == 1:
                references.append(pydicom.dcmread(path, stop_before_pixels=True))
    return references


def _slice_position(exam: PhantomExam, plane: Plane, index: int) -> tuple[float, float, float]:
    """Centre of the first stored pixel of a slice in LPS, mm."""
    z, y, x = exam.grid.shape
    first = {
        0: (index, y - 1 if plane.reverse_rows else 0, x - 1 if plane.reverse_columns else 0),
        2: (z - 1 if plane.reverse_rows else 0, y - 1 if plane.reverse_columns else 0, index),
    }[plane.axis]
    origin, spacing = exam.grid.origin, exam.grid.spacing
    return (
        origin[0] + first[2] * spacing[2],
        origin[1] + first[1] * spacing[1],
        origin[2] + first[0] * spacing[0],
    )
