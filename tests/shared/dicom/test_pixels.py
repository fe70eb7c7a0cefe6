"""Pixels of one slice: rescale, inversion, and what is refused."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLossless, JPEGLosslessSV1

from shared.dicom.header import parse_header
from shared.dicom.pixels import read_pixels
from shared.errors import StudyError
from tests.shared.dicom.jpeg_lossless import jpeg_lossless


@pytest.fixture
def first(exam, tmp_path):
    return exam.write(tmp_path) / "0"


def pixels(path, **tags):
    ds = pydicom.dcmread(path)
    for keyword, value in tags.items():
        setattr(ds, keyword, value)
    ds.save_as(path)
    return read_pixels(parse_header(path))


def test_pixels_are_the_stored_ones_after_rescale(first):
    stored = pydicom.dcmread(first).pixel_array.astype(np.float64)
    values = pixels(first, RescaleSlope=0.5, RescaleIntercept=-3.0)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, 0.5 * stored - 3.0)


def test_monochrome1_is_inverted_within_its_bits_before_the_rescale(first):
    stored = pydicom.dcmread(first).pixel_array.astype(np.float64)
    values = pixels(first, PhotometricInterpretation="MONOCHROME1", RescaleSlope=2.0, RescaleIntercept=1.0)
    np.testing.assert_array_equal(values, 2.0 * (4095 - stored) + 1.0)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"RescaleSlope": 0.0}, "RescaleSlope is zero"),
        ({"PixelData": b"\0" * 8}, "cut off"),
        ({"NumberOfFrames": 2}, "cut off|one grey slice"),
    ],
)
def test_what_gives_no_slice_is_refused(first, tags, message):
    with pytest.raises(StudyError, match=message) as caught:
        pixels(first, **tags)
    assert caught.value.reason == "unreadable_file"


def lossless(path, syntax, most=None):
    """The slice's pixels as JPEG lossless, of whose stream only so many bytes are there."""
    ds = pydicom.dcmread(path)
    stream = jpeg_lossless(ds.pixel_array.view(np.uint16))
    ds.PixelData = encapsulate([stream[:most]])
    ds["PixelData"].VR = "OB"
    ds.file_meta.TransferSyntaxUID = syntax
    ds.BitsStored, ds.HighBit = 16, 15
    ds.save_as(path)
    return path


@pytest.mark.parametrize("syntax", [JPEGLossless, JPEGLosslessSV1])
@pytest.mark.parametrize("signed", [0, 1])
def test_lossless_jpeg_gives_the_pixels_of_the_uncompressed_slice(first, syntax, signed):
    before = pixels(first, PixelRepresentation=signed)
    after = read_pixels(parse_header(lossless(first, syntax)))
    np.testing.assert_array_equal(after, before)
    inverted = pixels(first, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(inverted, (-1 if signed else 65535) - before)


def test_a_lossless_jpeg_that_is_cut_off_is_refused_and_leaves_no_file(first, tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    with pytest.raises(StudyError, match="cut off"):
        read_pixels(parse_header(lossless(first, JPEGLosslessSV1, most=-20)))
    assert not list(scratch.iterdir())


def test_jpeg_extended_of_12_bits():
    """A file of pydicom's corpus; the values are those that its own tests have of GDCM and of libjpeg."""
    values = read_pixels(parse_header(Path(get_testdata_file("JPEG-lossy.dcm"))))
    assert values.shape == (1024, 256)
    assert (values[420, 140], values[230, 120]) == (244, 95)
