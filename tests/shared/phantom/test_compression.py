"""Where points of a breast come to lie between the plates."""

import numpy as np
import pytest

from shared.phantom.breasts import draw_breasts
from shared.phantom.compression import VIEWS, compress

CASES = [(side, view) for side in (0, 1) for view in VIEWS]


def positioned(side, view, seed=3):
    rng = np.random.default_rng(seed)
    return compress(rng, draw_breasts(rng, "b")[side], view, 0.45, (210.0, 150.0))


def points_in(breast, count=400):
    rng = np.random.default_rng(8)
    direction = rng.standard_normal((count, 3))
    direction[:, 1] = -np.abs(direction[:, 1])
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return breast.place(direction, rng.uniform(0.05, 0.9, count))


@pytest.mark.parametrize(("side", "view"), CASES)
def test_a_pixel_and_a_height_lead_into_the_body_and_back(side, view):
    geometry = positioned(side, view)
    rng = np.random.default_rng(4)
    pixels = np.stack([geometry.level + rng.uniform(-80, 80, 50), rng.uniform(0, 120, 50)], axis=-1)
    for share in (-0.9, -0.2, 0.6):
        back, height = geometry.project(geometry.body_points(pixels, share))
        np.testing.assert_allclose(back, pixels, atol=1e-6)
        np.testing.assert_allclose(height, share * geometry.thickness / 2.0, atol=1e-6)


@pytest.mark.parametrize("side", [0, 1])
def test_a_points_depth_is_the_same_in_cc_and_mlo(side):
    depths = []
    for view in VIEWS:
        geometry = positioned(side, view)
        pixels, _ = geometry.project(points_in(geometry.breast))
        depths.append(pixels[:, 1] * geometry.pixel / geometry.stretch + geometry.cut)
    np.testing.assert_allclose(*depths, atol=1e-6)


@pytest.mark.parametrize("side", [0, 1])
def test_lateral_is_up_in_cc_and_the_axilla_is_up_in_mlo(side):
    cc, mlo = (positioned(side, view) for view in VIEWS)
    start = np.array(cc.breast.centre) - [0.0, 25.0, 0.0]
    outwards, headwards = np.array([cc.breast.lateral * 10.0, 0.0, 0.0]), np.array([0.0, 0.0, 10.0])
    points = np.stack([start, start + outwards, start + headwards, start + outwards + headwards])
    (of_cc, _), (of_mlo, _) = cc.project(points), mlo.project(points)
    assert of_cc[0, 0] - of_cc[1, 0] == pytest.approx(10.0 * cc.stretch / cc.pixel)
    assert of_cc[2, 0] == pytest.approx(of_cc[0, 0])
    assert of_mlo[3, 0] < min(of_mlo[1, 0], of_mlo[2, 0]) < of_mlo[0, 0]


@pytest.mark.parametrize(("side", "view"), CASES)
def test_the_breasts_inside_lies_between_the_plates_and_within_the_outline(side, view):
    geometry = positioned(side, view)
    pixels, height = geometry.project(points_in(geometry.breast))
    assert np.abs(height).max() < 0.55 * geometry.thickness
    seen = pixels[pixels[:, 1] > 1.0].astype(int)
    whole, skin = geometry.thickness_map()
    assert (whole[seen[:, 0], seen[:, 1]] > 0.0).mean() > 0.97
    assert whole.max() <= geometry.thickness + 1e-3
    assert ((skin >= 0.0) & (skin <= whole + 1e-3)).all()
    assert skin[whole > 0.99 * geometry.thickness].min() == pytest.approx(2.4, abs=0.1)  # two skins of 1.2 mm


def test_the_breast_is_thin_at_its_rim_and_mlo_alone_reaches_the_top():
    for view in VIEWS:
        whole, _ = positioned(0, view).thickness_map()
        row = whole[round(positioned(0, view).level)]
        rim = np.nonzero(row)[0].max()
        assert row[rim - 3] < 0.7 * row[0]
        assert (whole[0].max() > 0.0) == (view == "MLO")
        assert whole[:, -1].max() == 0.0
