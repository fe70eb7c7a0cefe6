"""Mammograms written as real DICOM by pydicom alone, from a drawn breast: the door's tests compare with the drawing."""

import io
from dataclasses import dataclass, field

import jpeg_ls
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)
from scipy import ndimage

from shared.dicom.index import read_header
from shared.modalities.mammography.tags import read_view_tags
from tests.shared.dicom.jpeg_lossless import jpeg_lossless

TOP = 4095
SYNTAXES = {
    "implicit": ImplicitVRLittleEndian,
    "explicit": ExplicitVRLittleEndian,
    "big-endian": ExplicitVRBigEndian,
    "rle": RLELossless,
    "jpeg-ls": JPEGLSLossless,
    "jpeg-2000": JPEG2000Lossless,
    "jpeg-lossless": JPEGLosslessSV1,
}
CODES = {"CC": ("399162004", "cranio-caudal"), "MLO": ("399368009", "medio-lateral oblique")}


def drawing(view="CC", rows=240, columns=180, seed=0):
    """A breast in 0..1 with the chest wall at the left, without its label; and where it is."""
    y, x = np.mgrid[:rows, :columns].astype(np.float64)
    radius = np.hypot(x / (0.62 * columns), (y - 0.52 * rows) / (0.38 * rows))
    inside = radius < 1.0
    depth = np.sqrt(np.clip(1.0 - radius**2, 0.0, 1.0))
    texture = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(rows, columns)), 3)
    gland = np.exp(-(((x - 0.25 * columns) / 25) ** 2) - ((y - 0.5 * rows) / 35) ** 2)
    grey = np.where(inside, 0.1 + 0.3 * depth + 0.3 * gland * depth + 0.2 * np.abs(texture), 0.0)
    if view == "MLO":
        muscle = x / (0.35 * columns) + y / (0.5 * rows) < 1.0
        grey, inside = np.where(muscle, 0.75 + 0.1 * texture, grey), inside | muscle
    return np.clip(grey, 0.0, 1.0), inside


def with_label(grey):
    """With the letters of side and view far from the breast, as bright as can be."""
    marked = grey.copy()
    marked[12:24, -40:-14] = 1.0
    return marked


@dataclass
class Mammogram:
    """One file; `stored` are its values as they stand in it, `tags` are set last."""

    stored: np.ndarray
    side: str = "L"
    view: str = "CC"
    sop_class: str = DigitalMammographyXRayImageStorageForPresentation
    bits: int = 12
    tags: dict = field(default_factory=dict)
    without: tuple = ()

    def dataset(self):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = self.sop_class
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        ds.PatientID, ds.PatientName = "PATIENT-1", "SECRET^NAME"
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.StudyDate = "1.2.3", "1.2.3.4", "20240102"
        ds.Modality, ds.Manufacturer, ds.ImageType = "MG", "HOLOGIC, Inc.", ["ORIGINAL", "PRIMARY"]
        ds.ImageLaterality, ds.ViewPosition = self.side, self.view
        if self.view in CODES:
            ds.ViewCodeSequence = [code(*CODES[self.view])]
        ds.ImagerPixelSpacing = [0.07, 0.07]
        ds.PhotometricInterpretation, ds.PresentationLUTShape = "MONOCHROME2", "IDENTITY"
        if self.sop_class == DigitalMammographyXRayImageStorageForProcessing:
            ds.PresentationIntentType, ds.PixelIntensityRelationship = "FOR PROCESSING", "LIN"
            ds.PixelIntensityRelationshipSign = 1
        elif self.sop_class == DigitalMammographyXRayImageStorageForPresentation:
            ds.PresentationIntentType = "FOR PRESENTATION"
        ds.Rows, ds.Columns = self.stored.shape
        ds.SamplesPerPixel, ds.PixelRepresentation = 1, int(np.issubdtype(self.stored.dtype, np.signedinteger))
        ds.BitsAllocated = 8 * self.stored.dtype.itemsize
        ds.BitsStored, ds.HighBit = self.bits, self.bits - 1
        ds.PixelData = self.stored.tobytes()
        ds["PixelData"].VR = "OW"
        for keyword in self.without:
            del ds[keyword]
        for keyword, value in self.tags.items():
            setattr(ds, keyword, value)
        return ds

    def write(self, path, syntax="explicit", cut=None):
        """Write it in a transfer syntax; `cut` keeps so many bytes of the compressed frame."""
        ds = self.dataset()
        ds.file_meta.TransferSyntaxUID = SYNTAXES[syntax]
        if SYNTAXES[syntax].is_encapsulated:
            ds.PixelData = encapsulate([frame(self.stored, syntax, ds)[:cut]])
            ds["PixelData"].VR = "OB"
        elif syntax == "big-endian":
            ds.PixelData = self.stored.byteswap().tobytes()
        pydicom.dcmwrite(path, ds, enforce_file_format=True)
        return path


def code(value, meaning, modifiers=()):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", meaning
    item.ViewModifierCodeSequence = [code(*modifier) for modifier in modifiers]
    return item


def frame(stored, syntax, ds):
    """The pixels as one compressed frame."""
    if syntax == "jpeg-lossless":
        return jpeg_lossless(stored)
    if syntax == "jpeg-ls":
        return bytes(jpeg_ls.encode_array(stored))
    if syntax == "jpeg-2000":
        stream = io.BytesIO()
        Image.fromarray(stored).save(stream, "JPEG2000", no_jp2=True)
        return stream.getvalue()
    ds = pydicom.Dataset(ds)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.compress(RLELossless, generate_instance_uid=False)
    return next(pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=1))


def shown(grey, side="L", top=TOP):
    """Stored values of an image For Presentation; a right breast has its chest wall at the right."""
    values = np.rint(top * with_label(grey)).astype(np.uint16)
    return values if side == "L" else np.ascontiguousarray(values[:, ::-1])


def exposed(grey, side="L", unit=4000.0):
    """Exposure of an image For Processing, which falls with what the breast attenuates."""
    values = np.rint(unit * np.exp(-3.0 * with_label(grey))).astype(np.uint16)
    return values if side == "L" else np.ascontiguousarray(values[:, ::-1])


def film(grey, side="L", view="CC", **tags):
    """As CBIS-DDSM stores it: a Secondary Capture of 16 bits, its view in PatientOrientation."""
    return Mammogram(
        shown(grey, side, 65535),
        sop_class=SecondaryCaptureImageStorage,
        bits=16,
        without=(
            *("ImageLaterality", "ViewPosition", "ViewCodeSequence", "ImagerPixelSpacing", "PresentationLUTShape"),
            "Manufacturer",
        ),
        tags={
            "Laterality": side,
            "PatientOrientation": view,
            "SeriesDescription": "full mammogram images",
            "PatientID": f"Mass-Test_P_00001_{'LEFT' if side == 'L' else 'RIGHT'}_{view}",
            **tags,
        },
    )


def tags_of(path):
    return read_view_tags(read_header(path))


@pytest.fixture
def simple(tmp_path):
    """Path of a small mammogram whose pixels do not matter, with these tags."""

    def write(*, side="L", view="CC", without=(), **tags):
        item = Mammogram(shown(drawing(rows=24, columns=60)[0]), side, view, tags=tags, without=without)
        return item.write(tmp_path / "simple.dcm")

    return write


LESION = (slice(110, 130), slice(40, 64))
"""Rows and columns of the lesion in a drawn left breast."""


def write_mask(path, side="L", where=LESION, shape=(240, 180)):
    """A reader's outline as an 8-bit Secondary Capture, in the file's own order of columns."""
    mask = np.zeros(shape, np.uint8)
    mask[where] = 255
    stored = mask if side == "L" else np.ascontiguousarray(mask[:, ::-1])
    return Mammogram(stored, side, sop_class=SecondaryCaptureImageStorage, bits=8).write(path)


def write_breasts(root, name, given):
    """Write the site folder of breasts, `patient, side, views, outlined views, labels` each; return it.

    `her2` draws a bright lesion, so that there is something to learn.
    """
    site = root / name
    site.mkdir(parents=True)
    (site / "site.toml").write_text(f'[site]\nname = "{name}"\npseudonym_key = "{"ab" * 32}"\nkind = "phantom"\n')
    labels = ("er", "pr", "her2", "ki67_percent", "malignant", "density")
    lines = [",".join(("patient_id", "side", "modality", "path", "mask", *labels))]
    for number, (patient, side, views, outlined, known) in enumerate(given):
        letter = side[0].upper()
        (site / f"images-{number}").mkdir()
        for seed, view in enumerate(views):
            grey = drawing(view, seed=10 * number + seed)[0]
            if outlined:
                grey[LESION] = 0.9 if known.get("her2") == "3+" else 0.5
            item = Mammogram(shown(grey, letter), letter, view, tags={"PatientID": patient, **FULL_WINDOW})
            item.write(site / f"images-{number}" / f"{view}.dcm")
        for view in outlined:
            (site / f"masks-{number}").mkdir(exist_ok=True)
            write_mask(site / f"masks-{number}" / f"{view}.dcm", letter)
        mask = f"masks-{number}" if outlined else ""
        cells = (str(known.get(label, "")) for label in labels)
        lines.append(",".join((patient, side, "MG", f"images-{number}", mask, *cells)))
    (site / "cases.csv").write_text("\n".join(lines) + "\n")
    return site


FULL_WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096}


@pytest.fixture
def breasts(tmp_path):
    """Writes a site of breasts (`write_breasts`); returns its folder."""
    return lambda *given, name="centre-a": write_breasts(tmp_path, name, given)
