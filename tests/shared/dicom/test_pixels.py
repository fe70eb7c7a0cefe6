"""Pixels of one slice: rescale, inversion, and what is refused."""

import numpy as np
import pydicom
import pytest

from shared.dicom.header import parse_header
from shared.dicom.pixels import read_pixels
from shared.errors import StudyError


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
