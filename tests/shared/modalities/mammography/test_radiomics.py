"""Radiomic measures of a view: drawn shapes by hand, PyRadiomics itself, mirror images, what may be missing."""

import numpy as np
import pytest

from shared.errors import StudyError
from shared.modalities.mammography.radiomics import NAMES, radiomic_measures

Y, X = np.mgrid[:64, :64].astype(np.float64)
FLAT = np.zeros((64, 64), np.float32)


def disc(radius, y=31.5, x=31.5):
    return np.hypot(Y - y, X - x) < radius


def box(rows, columns, top=20, left=16):
    mask = np.zeros((64, 64), np.bool_)
    mask[top : top + rows, left : left + columns] = True
    return mask


def noise(seed=0):
    return np.random.default_rng(seed).normal(size=(64, 64)).astype(np.float32)


def measured(image, outline):
    values = radiomic_measures(np.asarray(image, np.float32), outline)
    assert values.shape == (len(NAMES),)
    assert values.dtype == np.float32
    assert np.isfinite(values).all()
    return dict(zip(NAMES, values.tolist(), strict=True))


def test_a_disc_has_the_share_length_and_roundness_of_a_disc():
    own = measured(FLAT, disc(15))
    assert own["shape_Share"] == pytest.approx(np.pi * 15**2 / 64**2, rel=0.02)
    assert own["shape_Length"] == 30 / 64
    assert own["shape_Elongation"] == pytest.approx(1)
    assert own["shape_Roundness"] == pytest.approx(1, abs=0.01)


def test_a_box_has_the_axes_and_the_perimeter_that_are_worked_out_by_hand():
    own = measured(FLAT, box(8, 24))
    assert (own["shape_Share"], own["shape_Length"]) == (8 * 24 / 64**2, 24 / 64)
    # The variance of whole numbers in a row of n is (n^2 - 1) / 12.
    assert own["shape_Elongation"] == pytest.approx(np.sqrt((8**2 - 1) / (24**2 - 1)))
    # Lines along rows cross it 2 x 8 times, along columns 2 x 24; diagonal ones 2 (8 + 24 - 1) times in each direction.
    perimeter = np.pi / 8 * (2 * 8 + 2 * 24 + 2 * 2 * (8 + 24 - 1) / np.sqrt(2))
    assert own["shape_Roundness"] == pytest.approx(2 * np.sqrt(np.pi * 8 * 24) / perimeter)


def test_grey_values_are_pyradiomics():
    sitk = pytest.importorskip("SimpleITK")
    first, flat = (
        pytest.importorskip(f"radiomics.{name}", reason="the optional extra `radiomics` is not installed")
        for name in ("firstorder", "shape2D")
    )
    image, outline = noise() + X / 20, disc(12, 28, 34)
    own = measured(image, outline)
    volume, mask = (
        sitk.GetImageFromArray(array[None].astype(kind)) for array, kind in ((image, np.float32), (outline, np.uint8))
    )
    told = first.RadiomicsFirstOrder(volume, mask, label=1, binWidth=25)
    told.enableAllFeatures()
    greys = told.execute()
    for name in ("Mean", "Skewness", "10Percentile", "90Percentile"):
        assert own[f"grey_{name}"] == pytest.approx(float(greys[name]), rel=1e-4), name
    assert own["grey_Deviation"] ** 2 == pytest.approx(float(greys["Variance"]), rel=1e-4)
    told = flat.RadiomicsShape2D(volume, mask, label=1, force2D=True, force2Ddimension=0)
    told.enableAllFeatures()
    shape = told.execute()
    assert own["shape_Elongation"] == pytest.approx(float(shape["Elongation"]), rel=1e-5)
    assert own["shape_Share"] * 64**2 == pytest.approx(float(shape["PixelSurface"]))
    # Its perimeter is that of a polygon through the pixels' edges, ours counts crossings.
    assert own["shape_Roundness"] == pytest.approx(float(shape["Sphericity"]), rel=0.08)


def test_differences_of_a_ramp_are_its_slope():
    own = measured(0.5 * X, box(20, 20))
    # Along columns nothing changes, along rows by 0.5 a pixel: as many pairs of either.
    assert own["texture_Difference1"] == pytest.approx(0.5 / np.sqrt(2))
    assert own["texture_Difference3"] == pytest.approx(1.5 / np.sqrt(2))


def test_rim_core_and_surroundings_take_their_own_pixels():
    outline = box(30, 30, 17, 17)
    # A disc of its area has a radius of 16.9 pixels: the rim is 5 pixels deep, the surroundings 16 wide.
    away = np.hypot(*(np.maximum(0, np.maximum(16 - axis, axis - 47) + 1) for axis in (Y, X)))
    image = np.where(away > 16.93, -50.0, 1.0)
    image[outline], image[box(20, 20, 22, 22)] = 2.0, 5.0
    own = measured(image, outline)
    assert own["core_less_rim"] == 3
    assert own["lesion_less_surroundings"] == pytest.approx((400 * 5 + 500 * 2) / 900 - 1)
    assert own["surroundings_deviation"] == 0


def test_spicules_run_to_the_centre_and_rings_around_it():
    angle, away = np.arctan2(Y - 31.5, X - 31.5), np.hypot(Y - 31.5, X - 31.5)
    assert measured(np.sin(12 * angle), disc(12))["spicules"] > 0.95
    assert measured(np.sin(away), disc(12))["spicules"] < 0.05
    assert measured(FLAT, disc(12))["spicules"] == 0.5


def test_specks_are_foci_and_a_bright_lesion_is_none():
    specks = FLAT.copy()
    specks[26:40:3, 26:40:3] = 1.0
    assert measured(specks, disc(15))["foci_most"] == 1
    assert measured(specks, disc(15))["foci_mean"] == pytest.approx(specks.sum() / disc(30).sum(), rel=0.02)
    assert measured(box(12, 12), box(12, 12))["foci_most"] == 0


@pytest.mark.parametrize("turn", [np.fliplr, np.flipud, np.transpose])
def test_mirror_images_have_the_same_measures(turn):
    image, outline = noise() + X / 20, disc(12, 26, 36) | box(6, 24)
    expected = measured(image, outline)
    assert measured(turn(image), turn(outline)) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_another_contrast_changes_grey_values_in_their_unit_and_shapes_not_at_all():
    image, outline = noise(), disc(14, 30, 33)
    one, two = measured(image, outline), measured(3 * image + 7, outline)
    assert two["grey_Mean"] == pytest.approx(3 * one["grey_Mean"] + 7, rel=1e-4)
    for name in ("grey_Deviation", "texture_Difference1", "core_less_rim", "surroundings_deviation", "foci_most"):
        assert two[name] == pytest.approx(3 * one[name], rel=1e-3), name
    for name in (*NAMES[:4], "grey_Skewness", "spicules"):
        assert two[name] == pytest.approx(one[name], rel=1e-3), name


@pytest.mark.parametrize("outline", [box(1, 1), box(1, 2), box(64, 64, 0, 0), box(64, 20, 0, 0)])
def test_an_outline_of_one_pixel_or_of_the_whole_image_has_numbers(outline):
    for image in (FLAT, noise()):
        own = measured(image, outline)
        assert own["shape_Share"] == outline.sum() / 64**2
    if outline.all():  # nothing around it: what is inside stands for it
        assert own["lesion_less_surroundings"] == 0


def test_an_empty_outline_is_refused():
    with pytest.raises(StudyError) as caught:
        radiomic_measures(FLAT, FLAT > 0)
    assert caught.value.reason == "empty_mask"
