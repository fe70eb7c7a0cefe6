"""Grey values from stored ones: pydicom's functions are the reference where it has one, else the formula by hand."""

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import DigitalMammographyXRayImageStorageForProcessing

from shared.errors import StudyError
from shared.modalities.mammography.grey import attenuation, read_stored, through_window, windowed
from tests.shared.modalities.mammography.conftest import SYNTAXES, TOP, Mammogram, drawing, shown, tags_of

STORED = shown(drawing(rows=40, columns=70)[0])
RAW = DigitalMammographyXRayImageStorageForProcessing


def written(tmp_path, stored=STORED, syntax="explicit", **options):
    return Mammogram(stored, **options).write(tmp_path / "a.dcm", syntax)


def read(tmp_path, stored=STORED, **tags):
    return read_stored(tags_of(written(tmp_path, stored, tags=tags)))


def lut(first, bits, entries):
    item = Dataset()
    item.LUTDescriptor = [len(entries), first, bits]
    item["LUTDescriptor"].VR = "US"
    item.LUTData = list(entries)
    item["LUTData"].VR = "US"
    return [item]


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_every_transfer_syntax_gives_the_same_values(tmp_path, syntax):
    image = read_stored(tags_of(written(tmp_path, syntax=syntax, bits=16)))
    np.testing.assert_array_equal(image.values, STORED)
    assert image.values.dtype == np.float32
    assert image.top == 65535


@pytest.mark.parametrize("syntax", ["rle", "jpeg-ls", "jpeg-2000", "jpeg-lossless"])
@pytest.mark.parametrize("kept", [0.98, 0.5, 0.1])
def test_a_truncated_compressed_frame_is_refused(tmp_path, syntax, kept):
    length = 0
    path = Mammogram(STORED, bits=16).write(tmp_path / "whole", syntax)
    length = len(next(pydicom.encaps.generate_frames(pydicom.dcmread(path).PixelData, number_of_frames=1)))
    path = Mammogram(STORED, bits=16).write(tmp_path / "cut", syntax, cut=int(kept * length) // 2 * 2)
    with pytest.raises(StudyError, match="unreadable_file"):
        read_stored(tags_of(path))


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_file_that_ends_inside_its_pixels_is_refused(tmp_path, syntax):
    path = written(tmp_path, syntax=syntax, bits=16)
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(StudyError, match="unreadable_file"):
        read_stored(tags_of(path))


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"RescaleSlope": 0, "RescaleIntercept": 0}, "RescaleSlope is zero"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}, "a colour image"),
        ({"Rows": 41}, "cut off"),
    ],
)
def test_what_gives_no_image_is_refused(tmp_path, tags, message):
    with pytest.raises(StudyError, match=message) as caught:
        read(tmp_path, **tags)
    assert caught.value.reason == "unreadable_file"


@pytest.mark.parametrize("value", [0, 77])
def test_an_image_of_one_value_is_blank_whatever_its_padding(tmp_path, value):
    flat = np.full((40, 70), value, np.uint16)
    with pytest.raises(StudyError, match="blank_image"):
        read(tmp_path, flat)
    flat[:, :30] = 4000
    with pytest.raises(StudyError, match="blank_image"):
        read(tmp_path, flat, PixelPaddingValue=4000)


def test_values_are_rescaled_as_pydicom_does(tmp_path):
    tags = {"RescaleSlope": 0.5, "RescaleIntercept": -100}
    path = written(tmp_path, tags=tags)
    expected = apply_modality_lut(STORED, pydicom.dcmread(path))
    np.testing.assert_allclose(read_stored(tags_of(path)).values, expected, rtol=1e-6)
    path = written(tmp_path, tags={"ModalityLUTSequence": lut(100, 16, np.arange(3000) ** 2 % 40_000)})
    expected = apply_modality_lut(STORED, pydicom.dcmread(path))
    np.testing.assert_array_equal(read_stored(tags_of(path)).values, expected)


@pytest.mark.parametrize(
    ("value", "limit", "padded"), [(5, None, {5}), (5, 8, {5, 6, 7, 8}), (8, 5, {5, 6, 7, 8}), (-3, -1, {-3, -2, -1})]
)
def test_padding_is_one_value_or_a_range_either_way(tmp_path, value, limit, padded):
    stored = np.arange(-10, 30, dtype=np.int16).reshape(4, 10)
    tags = {"PixelPaddingValue": value, **({} if limit is None else {"PixelPaddingRangeLimit": limit})}
    image = read(tmp_path, stored, RescaleSlope=2, RescaleIntercept=1, **tags)
    np.testing.assert_array_equal(image.padding, np.isin(stored, list(padded)))


@pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("centre", "width"), [(1800, 900), ([700, 3000], [300, 50]), (2048, 4096)])
def test_windows_are_pydicoms(tmp_path, function, centre, width):
    tags = {"WindowCenter": centre, "WindowWidth": width, "RescaleSlope": 1, "RescaleIntercept": 0}
    path = written(tmp_path, tags={**tags, **({"VOILUTFunction": function} if function else {})})
    ds = pydicom.dcmread(path)
    expected = apply_voi_lut(apply_modality_lut(STORED, ds), ds)
    grey, done = windowed(read_stored(tags_of(path)))
    np.testing.assert_allclose(grey, expected / TOP, atol=2e-6)
    assert done == f"window {(function or 'linear').lower().replace('_', ' ')}"


def test_a_sigmoid_is_the_formula_of_the_standard():
    values = np.array([-100.0, 0.0, 50.0, 1e6], np.float32)
    expected = [1 / (1 + np.exp(-4 * (value - 50) / 200)) for value in (-100.0, 0.0, 50.0)]
    np.testing.assert_allclose(through_window(values, 50, 200, "SIGMOID"), [*expected, 1.0], rtol=1e-6)


def test_a_window_of_width_one_is_a_step():
    np.testing.assert_array_equal(through_window(np.arange(5, dtype=np.float32), 2, 1, "LINEAR"), [0, 0, 1, 1, 1])


@pytest.mark.parametrize("first", [0, 300, 1000])
def test_tables_are_pydicoms_and_go_before_windows(tmp_path, first):
    entries = (np.linspace(0, 1, 2500) ** 2 * 1023).astype(int)
    tags = {"VOILUTSequence": lut(first, 10, entries), "WindowCenter": 5, "WindowWidth": 2}
    path = written(tmp_path, tags=tags)
    expected = apply_voi_lut(STORED, pydicom.dcmread(path))
    grey, done = windowed(read_stored(tags_of(path)))
    np.testing.assert_allclose(grey, expected / 1023, rtol=1e-6)
    assert done == "table of values of interest"


@pytest.mark.parametrize("syntax", ["implicit", "explicit", "big-endian"])
def test_a_table_for_signed_values_may_begin_below_zero_and_be_stored_as_bytes(tmp_path, syntax):
    stored = STORED.astype(np.int16) - 2000
    order = ">u2" if syntax == "big-endian" else "<u2"
    table = Dataset()
    table.add_new("LUTDescriptor", "SS", [4096, -2000, 16])
    table.add_new("LUTData", "OW", np.arange(4096).astype(order).tobytes())
    path = Mammogram(stored, bits=16, tags={"VOILUTSequence": [table]}).write(tmp_path / "a", syntax)
    grey, _ = windowed(read_stored(tags_of(path)))
    np.testing.assert_allclose(grey, STORED / 4095, rtol=1e-6)


@pytest.mark.parametrize(
    ("tags", "done"),
    [
        ({}, "no window"),
        ({"WindowCenter": 100}, "no window"),
        ({"WindowCenter": 100, "WindowWidth": 0}, "an impossible window is not applied"),
        ({"WindowCenter": 9, "WindowWidth": 9, "VOILUTFunction": "X"}, "an impossible window is not applied"),
        ({"WindowCenter": 60_000, "WindowWidth": 9}, "a window linear that leaves no contrast is not applied"),
    ],
)
def test_a_window_of_no_use_is_not_applied_and_told(tmp_path, tags, done):
    assert windowed(read(tmp_path, **tags)) == (None, done)


@pytest.mark.parametrize("against", [False, True])
@pytest.mark.parametrize("sign", [1, -1])
def test_attenuation_is_minus_the_logarithm_of_the_exposure(tmp_path, sign, against):
    exposure = np.array([[1, 10], [100, 4000]], np.uint16)
    stored = exposure if (sign == 1) != against else TOP - exposure
    tags = {"PixelIntensityRelationshipSign": sign, "PixelIntensityRelationship": "LIN"}
    image = read_stored(tags_of(written(tmp_path, stored, sop_class=RAW, tags=tags)))
    values, done = attenuation(image, against_sign=against)
    np.testing.assert_allclose(values, [[0, -np.log(10)], [-np.log(100), -np.log(4000)]], rtol=1e-6)
    assert done == "minus the logarithm of the exposure, stored linearly"


def test_a_logarithm_is_taken_as_stored_and_an_unknown_relation_is_said_to_be_assumed(tmp_path):
    stored = np.array([[1, 10], [100, 4000]], np.uint16)
    for sign in (1, -1):
        tags = {"PixelIntensityRelationshipSign": sign, "PixelIntensityRelationship": "LOG"}
        values, done = attenuation(read_stored(tags_of(written(tmp_path, stored, sop_class=RAW, tags=tags))))
        np.testing.assert_array_equal(values, -sign * stored.astype(np.float32))
        assert "as stored" in done
    bare = ("PixelIntensityRelationship", "PixelIntensityRelationshipSign")
    _, done = attenuation(read_stored(tags_of(written(tmp_path, stored, sop_class=RAW, without=bare))))
    assert done.endswith("which is assumed")
