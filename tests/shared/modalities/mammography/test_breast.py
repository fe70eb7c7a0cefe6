"""Air, breast and chest wall, of drawings whose truth is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import StudyError
from shared.modalities.mammography.breast import chest_wall_is_right, find_air, find_breast, reduced_image
from tests.shared.modalities.mammography.conftest import drawing, with_label

NONE = np.zeros((240, 180), np.bool_)


def reduced(grey, padding=NONE):
    return reduced_image(grey.astype(np.float32), padding)


def overlap(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_a_reduced_image_is_the_mean_of_squares_without_padding():
    values = np.random.default_rng(0).normal(size=(1030, 700)).astype(np.float32)
    padding = np.zeros(values.shape, np.bool_)
    padding[:3, :3], padding[6, 6] = True, True
    values[padding] = 1e6
    small = reduced_image(values, padding)
    assert (small.factor, small.grey.shape) == (3, (343, 233))
    assert np.isnan(small.grey[0, 0])
    square = np.ma.array(values[6:9, 6:9], mask=padding[6:9, 6:9])
    np.testing.assert_allclose(small.grey[2, 2], square.mean(), rtol=1e-4)
    mask = np.zeros(small.grey.shape, np.bool_)
    mask[-1, -1] = True
    large = small.enlarged(mask)
    assert large.shape == values.shape
    np.testing.assert_array_equal(np.argwhere(large)[[0, -1]], [[1026, 696], [1029, 699]])


@settings(max_examples=40)
@given(
    seed=st.integers(0, 99),
    view=st.sampled_from(["CC", "MLO"]),
    scale=st.floats(0.01, 5000),
    shift=st.floats(-1000, 1000),
    noise=st.floats(0, 0.01),
    inverted=st.booleans(),
)
def test_air_is_told_from_the_breast_whatever_the_scale_and_which_end_is_white(
    seed, view, scale, shift, noise, inverted
):
    grey, inside = drawing(view, seed=seed)
    noisy = with_label(grey) + np.random.default_rng(seed).normal(0, noise, grey.shape)
    image = reduced(shift + scale * (1 - noisy if inverted else noisy))
    air = find_air(image)
    assert air.dark is not inverted
    np.testing.assert_allclose((air.level - shift) / scale, float(inverted), atol=0.05)
    if not inverted:
        assert overlap(find_breast(image, air), inside) > 0.97


def test_labels_and_the_frames_of_a_film_are_no_breast():
    grey, inside = drawing("MLO")
    framed = with_label(grey)
    framed[:2], framed[-2:] = 1.0, 1.0  # as scanners leave above and below the film
    image = reduced(framed)
    breast = find_breast(image, find_air(image))
    assert not breast[12:24, -40:-14].any()
    assert overlap(breast, inside) > 0.95
    assert not breast[-2:, 30:].any()
    assert not breast[:2, 90:].any()  # of the frame that touches the muscle


@pytest.mark.parametrize("padded", ["all air", "a strip beside air"])
@pytest.mark.parametrize("inverted", [False, True])
def test_padding_is_no_air_and_no_tissue_and_does_not_hide_which_end_is_white(padded, inverted):
    grey, inside = drawing()
    padding = ~inside if padded == "all air" else np.arange(180) >= 140 + np.zeros((240, 1))
    values = np.where(padding, 0.4, 1 - grey if inverted else grey)  # padding may have any value
    air = find_air(reduced(values, padding))
    assert air.dark is not inverted
    if not inverted:
        breast = find_breast(reduced(values, padding), air) & ~padding
        assert overlap(breast, inside) > 0.9


@pytest.mark.parametrize(
    "grey",
    [
        np.tile(np.linspace(0, 1, 180), (240, 1)),  # a wedge: no level is common
        0.5 + 0.1 * np.random.default_rng(0).normal(size=(240, 180)),  # a cut-out within the breast
    ],
)
def test_where_no_air_is_seen_the_image_is_refused(grey):
    with pytest.raises(StudyError, match="unclear_background"):
        find_air(reduced(grey))


def test_an_image_in_which_nothing_stands_out_is_blank():
    with pytest.raises(StudyError, match="blank_image"):
        find_air(reduced(np.zeros((240, 180))))
    with pytest.raises(StudyError, match="blank_image"):
        find_air(reduced(np.zeros((240, 180)), ~NONE))


def test_letters_alone_are_no_breast():
    grey = np.zeros((240, 180))
    for row in range(10, 230, 20):
        grey[row : row + 5, 10:170] = 1.0
    image = reduced(grey)
    with pytest.raises(StudyError, match="no_breast_found"):
        find_breast(image, find_air(image))


def test_the_chest_wall_is_where_the_breast_touches_the_edge():
    _, inside = drawing("MLO")
    assert not chest_wall_is_right(inside)
    assert chest_wall_is_right(inside[:, ::-1])
    for both in (inside | inside[:, ::-1], np.roll(inside & (np.arange(180) > 60), 0, 1) & (np.arange(180) < 100)):
        with pytest.raises(StudyError, match="alike"):
            chest_wall_is_right(both)
