"""A tiny exam written as real DICOM by pydicom alone: the door's tests read it back and compare with the array."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

from shared.types import Grid

INJECTION = 10 * 3600 + 15 * 60  # 10:15:00
TIMES_S = (-60.0, 60.0, 150.0)
SPACING = (2.0, 1.5, 1.25)
ORIGIN = (-6.0, 4.0, -10.0)

# Row and column cosines, and whether files are numbered against the slice normal.
PLANES = {
    "axial": ((1, 0, 0), (0, 1, 0), False),
    "axial_descending": ((1, 0, 0), (0, 1, 0), True),
    "axial_turned": ((-1, 0, 0), (0, -1, 0), False),
    "axial_mirrored": ((-1, 0, 0), (0, 1, 0), False),
    "sagittal": ((0, 1, 0), (0, 0, -1), False),
    "sagittal_mirrored": ((0, -1, 0), (0, 0, -1), True),
    "coronal": ((1, 0, 0), (0, 0, -1), False),
}
LAYOUTS = ("siemens", "ge", "ge_series", "philips", "acquisition_number", "acquisition_time", "instance_number")


def clock(seconds):
    seconds %= 86_400
    return f"{int(seconds // 3600):02d}{int(seconds // 60 % 60):02d}{seconds % 60:05.2f}"


@dataclass
class ExamWriter:
    """`volume` is `(phase, z, y, x)` in LPS on the grid of `SPACING` and `ORIGIN`; `datasets` its slices as stored."""

    volume: np.ndarray
    patient_id: str = "PATIENT-1"
    exam: str = "1"
    injection: float = INJECTION
    tags: dict = field(default_factory=dict)

    @property
    def grid(self):
        return Grid(self.volume.shape[1:], SPACING, ORIGIN)

    def datasets(self, layout="siemens", plane="axial"):
        """Slices of every phase as a vendor writes them, in acquisition order."""
        row, column, descending = PLANES[plane]
        result = []
        for phase, stack in enumerate(self.volume):
            slices = list(_cut(stack, np.array(row), np.array(column)))
            for number, (position, pixels) in enumerate(reversed(slices) if descending else slices):
                ds = self._dataset(phase, number, position, pixels)
                ds.ImageOrientationPatient = [*row, *column]
                ds.PixelSpacing = [_step(column), _step(row)]
                ds.SliceThickness = 9.0  # a trap: distances come from positions
                _describe(ds, self, layout, phase=phase, slice_number=(number, len(slices)))
                for keyword, value in self.tags.items():
                    setattr(ds, keyword, value)
                result.append(ds)
        return result

    def _dataset(self, phase, number, position, pixels):
        ds = pydicom.Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = MRImageStorage
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{self.exam}.{phase + 1}.{number + 1}"
        ds.StudyInstanceUID = f"1.2.3.{self.exam}"
        ds.SeriesInstanceUID = f"1.2.3.{self.exam}.{phase + 1}"
        ds.FrameOfReferenceUID = f"1.2.3.{self.exam}.9"
        ds.StudyDate, ds.StudyTime, ds.AccessionNumber, ds.StudyID = "20210203", "100000", f"ACC{self.exam}", "1"
        ds.PatientID, ds.PatientName, ds.PatientBirthDate, ds.PatientSex = self.patient_id, "DOE^JANE", "19600101", "F"
        ds.Modality, ds.ReferringPhysicianName = "MR", ""
        ds.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
        ds.ScanningSequence, ds.SequenceVariant = "GR", "SP"
        ds.RepetitionTime, ds.EchoTime, ds.FlipAngle = 4.2, 1.6, 10
        ds.MagneticFieldStrength = 1.5
        ds.SeriesNumber, ds.AcquisitionNumber, ds.InstanceNumber = phase + 3, phase + 1, number + 1
        ds.ImagePositionPatient = [float(value) for value in position]
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.Rows, ds.Columns = pixels.shape
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
        ds.PixelData = np.ascontiguousarray(pixels).astype("<u2").tobytes()
        return ds

    def write(self, folder, datasets=None, *, name="{number}", **kwargs):
        """Save slices below `folder` and return it."""
        for number, ds in enumerate(self.datasets(**kwargs) if datasets is None else datasets):
            path = Path(folder, name.format(number=number, series=ds.get("SeriesNumber", 0)))
            path.parent.mkdir(parents=True, exist_ok=True)
            pydicom.dcmwrite(path, ds, enforce_file_format=True)
        return Path(folder)


def _step(cosine):
    return SPACING[2 - int(np.argmax(np.abs(cosine)))]


def _cut(stack, row, column):
    """Slices of a `(z, y, x)` volume along `row x column`: position of the first pixel and pixels, voxel by voxel."""
    normal = np.cross(row, column)
    sizes = np.array(stack.shape[::-1])
    corner = np.where(row + column + np.abs(normal) < 0, sizes - 1, 0)
    corner = corner * (np.abs(normal) == 0)
    along = int(np.argmax(np.abs(normal)))
    height, width = (int(sizes[np.argmax(np.abs(cosine))]) for cosine in (column, row))
    order = range(sizes[along]) if normal[along] > 0 else reversed(range(sizes[along]))
    for index in order:
        first = corner + index * np.abs(normal)
        pixels = np.empty((height, width), stack.dtype)
        for r in range(height):
            for c in range(width):
                x, y, z = first + r * column + c * row
                pixels[r, c] = stack[z, y, x]
        yield np.array(ORIGIN) + first * np.array(SPACING[::-1]), pixels


def _describe(ds, exam, layout, *, phase, slice_number):
    """Time and contrast tags in the manner of one vendor."""
    number, count = slice_number
    start, now = exam.injection + TIMES_S[0], exam.injection + TIMES_S[phase]
    ds.AcquisitionTime = ds.SeriesTime = ds.ContentTime = clock(now)
    ds.Manufacturer = {"siemens": "SIEMENS Healthineers", "philips": "Philips"}.get(layout, "GE MEDICAL SYSTEMS")
    if layout == "siemens" and phase:
        ds.ContrastBolusAgent, ds.ContrastBolusStartTime = "AGENT", clock(exam.injection)
    if layout == "ge_series" and phase:
        ds.ContrastBolusAgent = "AGENT"
    if layout in {"siemens", "ge_series"}:
        return
    ds.SeriesInstanceUID, ds.SeriesNumber = f"1.2.3.{exam.exam}.1", 3
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{exam.exam}.7.{phase * count + number + 1}"
    ds.InstanceNumber = phase * count + number + 1
    ds.AcquisitionNumber = 1
    ds.AcquisitionTime = ds.SeriesTime = ds.ContentTime = clock(start)
    if layout == "ge":
        ds.TriggerTime = (now - start) * 1000.0
    if layout == "philips":
        ds.TemporalPositionIdentifier, ds.NumberOfTemporalPositions, ds.TemporalResolution = phase + 1, 3, 105_000.0
        ds.ContrastBolusAgent = "AGENT"
    if layout == "acquisition_number":
        ds.AcquisitionNumber = phase + 1
    if layout == "acquisition_time":
        ds.AcquisitionTime = clock(now)


@pytest.fixture
def exam():
    """Exam of 3 phases, 6 slices of 12 x 10: one anatomy that brightens, every voxel different from its neighbours."""
    rng = np.random.default_rng(7)
    anatomy, uptake = rng.integers(0, 2000, (6, 12, 10)), rng.integers(200, 1000, (3, 6, 12, 10))
    return ExamWriter((anatomy + [[[[0]]], [[[1]]], [[[1]]]] * uptake).astype(np.uint16))
