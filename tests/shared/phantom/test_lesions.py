"""Lesions: their size, their place, their uptake, and what they displace."""

from dataclasses import replace

import numpy as np
import pytest

from shared.phantom.anatomy import build_anatomy
from shared.phantom.biology import Latents
from shared.phantom.breasts import draw_breasts
from shared.phantom.lesions import Lesion, add_distractors, add_oedema, around, build_lesion, make_room, star_depth
from shared.types import Grid

GRID = Grid((36, 36, 50), (3.0, 3.0, 3.0), (-2.0, -77.0, -55.0))
ROUND = Latents(24.0, 1.0, 0.02, 0.0, 0.0, 0.0, 0.0, 0.2, 0.6, 0.05, 0, non_mass=False)


@pytest.fixture
def patient():
    rng = np.random.default_rng(4)
    left = draw_breasts(rng, "b")[0]
    return rng, build_anatomy(rng, GRID, (left,)), left


def test_around_holds_the_voxels_near_a_point():
    box, offset = around(Grid((9, 9, 9), (2.0, 1.0, 1.0), (1.0, 2.0, 3.0)), np.array([5.0, 6.0, 9.0]), 2.0)
    assert [(part.start, part.stop) for part in box] == [(2, 5), (2, 7), (2, 7)]
    assert offset.shape == (3, 5, 5, 3)
    assert offset[1, 2, 2].tolist() == [0.0, 0.0, 0.0]
    assert offset[0, 0, 0].tolist() == [-2.0, -2.0, -2.0]
    empty, _ = around(Grid((3, 3, 3), (1.0, 1.0, 1.0)), np.array([50.0, 0.0, 0.0]), 2.0)
    assert empty[2] == slice(0, 0)


def test_a_regular_star_is_a_sphere():
    _, offset = around(Grid((31, 31, 31), (1.0, 1.0, 1.0)), np.full(3, 15.0), 14.0)
    depth, relative = star_depth(
        np.random.default_rng(0), offset, 12.0, axis_ratio=1.0, irregularity=0.0, spiculation=0.0
    )
    distance = np.linalg.norm(offset, axis=-1)
    np.testing.assert_allclose(depth, 12.0 - distance, atol=2e-5)
    np.testing.assert_allclose(relative, distance / 12.0, atol=2e-6)


def test_spicules_reach_out_of_the_body():
    _, offset = around(Grid((61, 61, 61), (1.0, 1.0, 1.0)), np.full(3, 30.0), 29.0)

    def farthest(spiculation):
        depth, _ = star_depth(
            np.random.default_rng(1), offset, 12.0, axis_ratio=1.0, irregularity=0.0, spiculation=spiculation
        )
        return np.linalg.norm(offset, axis=-1)[depth > 0].max()

    assert farthest(1.0) > farthest(0.0) + 2.0


def test_a_round_lesion_has_the_volume_of_its_diameter(patient):
    rng, anatomy, left = patient
    lesion = build_lesion(rng, anatomy, left, ROUND)
    volume = lesion.mask(GRID).sum() * 27.0
    assert volume == pytest.approx(np.pi / 6 * 24.0**3, rel=0.15)
    assert not (lesion.mask(GRID) & ~anatomy.breast["left"]).any()
    assert lesion.ktrans[lesion.share > 0.9].mean() == pytest.approx(0.2, rel=0.1)


def test_a_necrotic_core_enhances_less_than_the_rim_and_belongs_to_the_lesion(patient):
    rng, anatomy, left = patient
    lesion = build_lesion(rng, anatomy, left, replace(ROUND, necrosis=0.5, rim=0.8))
    place = np.rint((np.array(lesion.centre) - np.array(GRID.origin)) / 3.0).astype(int)[::-1]
    core = tuple(int(index - part.start) for index, part in zip(place, lesion.box, strict=True))
    assert lesion.ktrans[core] < 0.3 * lesion.ktrans[lesion.share > 0.9].max()
    assert lesion.mask(GRID)[tuple(place)]


def test_fluids_belong_to_the_body_of_a_lesion():
    share, fluid = np.full((2, 2, 2), 0.2, np.float32), np.full((2, 2, 2), 0.4, np.float32)
    box = (slice(1, 3), slice(0, 2), slice(0, 2))
    lesion = Lesion(box, share, share, share, share, (0.0, 0.0, 0.0), {"cyst": fluid})
    mask = lesion.mask(Grid((3, 3, 3), (1.0, 1.0, 1.0)))
    assert mask.sum() == 8  # 0.6 is more than a half
    assert mask[1:3, 0:2, 0:2].all()
    assert not replace(lesion, fluids={}).mask(Grid((3, 3, 3), (1.0, 1.0, 1.0))).any()


def test_make_room_leaves_space_for_exactly_the_new_body(patient):
    _, anatomy, _ = patient
    box = (slice(10, 20), slice(10, 20), slice(20, 30))
    before = sum(anatomy.fractions.values())[box]
    make_room(anatomy, box, np.full((10, 10, 10), 0.25, np.float32))
    np.testing.assert_allclose(sum(anatomy.fractions.values())[box], 0.75 * before, atol=1e-6)


def test_oedema_turns_fat_near_the_lesion_into_water(patient):
    rng, anatomy, left = patient
    lesion = build_lesion(rng, anatomy, left, ROUND)
    before = {name: share.copy() for name, share in anatomy.fractions.items()}
    add_oedema(anatomy, lesion, replace(ROUND, oedema=1.0))
    lost = before["fat"] - anatomy.fractions["fat"]
    assert lost.max() > 0.1
    np.testing.assert_allclose(anatomy.fractions["ligament"] - before["ligament"], lost, atol=1e-6)
    z, y, x = np.nonzero(lost > 1e-6)
    points = np.array(GRID.origin) + 3.0 * np.stack([x, y, z], axis=1)
    assert np.linalg.norm(points - np.array(lesion.centre), axis=1).max() <= 1.9 * 12.0


def test_distractors_keep_off_the_lesion_and_shares_still_add_up(patient):
    rng, anatomy, left = patient
    mask = build_lesion(rng, anatomy, left, ROUND).mask(GRID)
    total = sum(anatomy.fractions.values()).copy()
    for _ in range(5):
        add_distractors(rng, anatomy, left, mask)
    np.testing.assert_allclose(sum(anatomy.fractions.values()), total, atol=1e-5)
    extra = sum(anatomy.fractions[name] for name in ("fibroadenoma", "cyst", "node"))
    assert extra.max() > 0.5
    assert not (mask & (extra > 0)).any()
