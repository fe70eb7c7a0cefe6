"""Mammograms as each unit stores them, read back by pydicom alone."""

from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
from highdicom._module_utils import check_required_attributes
from pydicom.uid import (
    DigitalMammographyXRayImageStorageForPresentation,
    DigitalMammographyXRayImageStorageForProcessing,
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)

from shared.phantom.breasts import draw_breasts
from shared.phantom.centres import CENTRES
from shared.phantom.compression import VIEWS, compress
from shared.phantom.mammogram_image import UNITS, grey_scale, look_at
from shared.phantom.mammogram_writer import SYNTAXES, presentation_pixels, write_breast
from shared.phantom.mammograms import Mammogram
from tests.shared.phantom.conftest import LABELS

LOOK = look_at("B", 0.6)
MODULES = ("patient", "general-study", "general-series", "dx-series", "mammography-series", "general-equipment")
MODULES += ("general-image", "image-pixel", "dx-anatomy-imaged", "dx-image", "dx-detector", "mammography-image")
MODULES += ("acquisition-context", "sop-common")
ORIENTATION = {("L", "CC"): ["A", "R"], ("R", "CC"): ["P", "L"], ("L", "MLO"): ["A", "FR"], ("R", "MLO"): ["P", "FL"]}


def views_of(key, side, *, lesion=True):
    """Two views without anatomy: every pixel another grey, the outline near the chest wall and above the middle."""
    rng = np.random.default_rng(4)
    pictures = []
    for view in VIEWS:
        breast = draw_breasts(rng, "b")[side == "right"]
        geometry = compress(rng, breast, view, UNITS[key].pixel_mm, (80.0, 100.0))
        inside = np.zeros(geometry.shape, bool)
        inside[20:, :60] = True
        level = np.where(inside, rng.uniform(1.8, 3.2, geometry.shape), 0.0).astype(np.float32)
        mask = np.zeros(geometry.shape, bool)
        mask[40:60, 10:25] = True
        ends = (2.0, 3.0)
        pictures.append(
            Mammogram(
                side=side,
                geometry=geometry,
                measured=level,
                level=level,
                ends=ends,
                grey=grey_scale(level, ends, LOOK) * inside,
                inside=inside,
                muscle=~inside,
                lesion=mask if lesion else None,
            )
        )
    return pictures


def body_of(key, index=0):
    return SimpleNamespace(place=CENTRES[key], index=index, patient_id=f"PH-{key}-000", labels=LABELS)


def written(folder, key, side="left", index=0, **options):
    pictures = views_of(key, side, **options)
    write_breast(folder / "dicom", folder / "masks", body_of(key, index), pictures, LOOK, "identity")
    images = [pydicom.dcmread(path) for path in sorted((folder / "dicom").rglob("*")) if path.is_file()]
    return pictures, {(ds.ViewPosition, ds.PresentationIntentType): ds for ds in images}


def as_displayed(pixels, ds):
    return pixels[:, ::-1] if ds.ImageLaterality == "R" else pixels


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("key", UNITS)
def test_every_module_has_the_attributes_that_the_standard_asks_for(tmp_path, key, side):
    _, images = written(tmp_path, key, side)
    assert len(images) == (4 if key == "B" else 2)
    for (view, intent), ds in images.items():
        for module in MODULES:
            check_required_attributes(ds, module)
        raw = intent == "FOR PROCESSING"
        expected = (
            DigitalMammographyXRayImageStorageForProcessing
            if raw
            else DigitalMammographyXRayImageStorageForPresentation
        )
        assert ds.SOPClassUID == ds.file_meta.MediaStorageSOPClassUID == expected
        assert ds.Modality == "MG"
        assert ds.ImageLaterality == side[0].upper()
        assert ds.PatientOrientation == ORIENTATION[ds.ImageLaterality, view]
        code = ds.ViewCodeSequence[0]
        old = {"CC": "R-10242", "MLO": "R-10226"}[view], "SRT"
        new = {"CC": "399162004", "MLO": "399368009"}[view], "SCT"
        assert (code.CodeValue, code.CodingSchemeDesignator) == (old if key == "C" else new)
        assert ds.ImagerPixelSpacing == [UNITS[key].pixel_mm] * 2
        assert (ds.BitsStored, ds.HighBit, ds.BitsAllocated) == (UNITS[key].bits, UNITS[key].bits - 1, 16)
        assert 24 <= ds.KVP <= 34
        assert 30 <= ds.BodyPartThickness <= 80
        inverted = raw or key == "C"
        assert ds.PhotometricInterpretation == ("MONOCHROME1" if inverted else "MONOCHROME2")
        assert ds.PresentationLUTShape == ("INVERSE" if inverted else "IDENTITY")
        assert ds.PatientName.family_name == "PHANTOM"
        assert "PHANTOM" in ds.SeriesDescription
        assert ds.SOPInstanceUID.startswith("2.25.")
    assert len({ds.SOPInstanceUID for ds in images.values()}) == len(images)
    assert len({ds.StudyInstanceUID for ds in images.values()}) == 1


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("key", UNITS)
def test_pixels_come_back_with_the_chest_wall_where_it_belongs(tmp_path, key, side):
    pictures, images = written(tmp_path, key, side)
    top = 2.0 ** UNITS[key].bits - 1.0
    for picture in pictures:
        ds = images[picture.view, "FOR PRESENTATION"]
        stored, _ = presentation_pixels(picture, UNITS[key], LOOK)
        np.testing.assert_array_equal(ds.pixel_array, stored)
        values = as_displayed(ds.pixel_array.astype(float), ds)
        if key == "B":  # DICOM PS3.3 C.11.2.1.3.1, the sigmoid of the window
            values = top / (1.0 + np.exp(-4.0 * (values - ds.WindowCenter) / ds.WindowWidth))
            assert ds.VOILUTFunction == "SIGMOID"
            order = np.argsort(values[picture.inside])
            assert (np.diff(picture.grey[picture.inside][order]) > -1e-3).all()
            continue
        values = top - values if key == "C" else values
        # The marker lies outside the breast.
        np.testing.assert_allclose(values[picture.inside] / top, picture.grey[picture.inside], atol=1.0 / top)
        assert values[:32, -80:].max() > 0.5 * top  # the marker


def test_the_raw_picture_is_proportional_to_the_exposure(tmp_path):
    pictures, images = written(tmp_path, "B", "right")
    for picture in pictures:
        ds = images[picture.view, "FOR PROCESSING"]
        counts = as_displayed(ds.pixel_array.astype(float), ds)
        ratio = np.log(counts[0, 70] / counts[picture.inside])
        np.testing.assert_allclose(ratio, picture.measured[picture.inside], atol=0.01)
        assert (ds.PixelIntensityRelationship, ds.PixelIntensityRelationshipSign) == ("LIN", 1)


@pytest.mark.parametrize("index", range(3))
def test_the_external_centre_compresses_without_loss(tmp_path, index):
    pictures, images = written(tmp_path, "D", index=index)
    for picture in pictures:
        ds = images[picture.view, "FOR PRESENTATION"]
        assert ds.file_meta.TransferSyntaxUID == SYNTAXES[index]
        np.testing.assert_array_equal(ds.pixel_array, presentation_pixels(picture, UNITS["D"], LOOK)[0])


@pytest.mark.parametrize("side", ["left", "right"])
def test_outlines_are_secondary_captures_of_the_images_size(tmp_path, side):
    pictures, images = written(tmp_path, "A", side)
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == ["CC.dcm", "MLO.dcm"]
    for picture in pictures:
        ds = pydicom.dcmread(tmp_path / "masks" / f"{picture.view}.dcm")
        image = images[picture.view, "FOR PRESENTATION"]
        assert ds.SOPClassUID == SecondaryCaptureImageStorage
        assert ds.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert (ds.BitsStored, ds.Rows, ds.Columns) == (8, image.Rows, image.Columns)
        assert ds.StudyInstanceUID == image.StudyInstanceUID
        np.testing.assert_array_equal(as_displayed(ds.pixel_array, image) > 0, picture.lesion)


def test_a_breast_without_a_lesion_has_no_outlines(tmp_path):
    written(tmp_path, "A", lesion=False)
    assert not (tmp_path / "masks").exists()


@pytest.mark.parametrize("key", UNITS)
def test_same_pictures_same_bytes(tmp_path, key):
    for name in ("first", "second"):
        written(tmp_path / name, key)
    files = sorted(path.relative_to(tmp_path / "first") for path in (tmp_path / "first").rglob("*.*"))
    assert all(
        (tmp_path / "first" / f).read_bytes() == (tmp_path / "second" / f).read_bytes()
        for f in files
        if (tmp_path / "first" / f).is_file()
    )
