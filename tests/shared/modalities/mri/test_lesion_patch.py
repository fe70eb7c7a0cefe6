"""Patches of lesions of known shape and place: distances, the box, mirroring, channels, and what the cache keeps."""

import numpy as np
import pytest

from shared.config.sections import PatchConfig
from shared.errors import StudyError
from shared.modalities.mri import lesion_patch
from shared.modalities.mri.lesion_patch import box_spacing, cut_patch, keep_patch, open_patch, signed_distance
from shared.modalities.mri.plan import Extraction, MriPlan
from shared.modalities.mri.region import BreastRegion
from shared.types import Grid

LOW, HIGH, SCALE = (0.0, -0.2, -0.3, -0.3), (0.8, 0.5, 0.3, 0.3), (0.7, 0.4, 0.2, 0.1)
PLAN = MriPlan(
    mode="whole_breast",
    spacing_mm=(4.0, 3.0, 3.0),
    crop_voxels=(32, 32, 48),
    least_voxels=(16, 16, 16),
    low=LOW,
    high=HIGH,
    scale=SCALE,
    extraction=Extraction(post_phases=3, n4=False, n4_shrink=4, n4_iterations=(20, 20, 20, 20)),
)
START = (2, 5, 3)  # of the breast's box in the study
SPACINGS = [(1.0, 1.0, 1.0), (2.0, 0.8, 0.8), (3.0, 0.7, 0.7)]


def places(shape, spacing, start=(0, 0, 0)):
    """Voxel centres `(3, z, y, x)` in mm from the box's first voxel."""
    axes = [(np.arange(count) - first) * step for count, step, first in zip(shape, spacing, start, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def make_region(inside, spacing=(1.0, 1.0, 1.0), size_mm=(50.0, 54.0, 58.0), side="right"):
    """A breast of noise in a larger study; `inside` says of places in mm from the box's first voxel what is lesion."""
    box = tuple(round(size / step) for size, step in zip(size_mm, spacing, strict=True))
    study = tuple(2 * first + count for first, count in zip(START, box, strict=True))
    phases = np.random.default_rng(1).random((4, *box)).astype(np.float16)
    lesion = inside(places(study, spacing, START))
    return BreastRegion(phases, np.ones(box, bool), lesion, Grid(study, spacing), START, side)


CENTRE = (24.3, 25.8, 28.4)
"""Between voxels: a centre on one would put whole shells of them right on the surface."""


def ball(radius, centre=CENTRE):
    return lambda where: ((where - np.reshape(centre, (3, 1, 1, 1))) ** 2).sum(0) <= radius**2


def block(sides, first=(8, 8, 8)):
    """A box of whole millimetres, for studies of 1 mm."""

    def inside(where):
        low = np.reshape(first, (3, 1, 1, 1))
        return ((where >= low) & (where < low + np.reshape(sides, (3, 1, 1, 1)))).all(0)

    return inside


def middle_of(region):
    """Middle of the lesion's bounding box, mm from the breast box's first voxel, and the box's longest side."""
    found = np.argwhere(region.lesion[region.window])
    low, high, spacing = found.min(0), found.max(0), np.array(region.grid.spacing)
    return 0.5 * (low + high) * spacing, float(((high - low + 1) * spacing).max())


def radii(voxels, step, middle, centre):
    """Distance of each patch voxel from `centre`, for a patch whose own middle lies at `middle`."""
    first = np.asarray(middle) - 0.5 * (np.array(voxels) - 1) * step
    where = places(voxels, (step,) * 3) + first.reshape(3, 1, 1, 1)
    return np.sqrt(((where - np.reshape(centre, (3, 1, 1, 1))) ** 2).sum(0))


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("radius", [6.0, 10.0, 14.0])
@pytest.mark.parametrize(
    "config", [PatchConfig(voxels=(40, 44, 48), spacing_mm=1.0), PatchConfig(), PatchConfig(over_lesion=2.5)]
)
def test_the_last_channel_is_the_distance_to_a_balls_surface(spacing, radius, config):
    centre = np.array(CENTRE)
    region = make_region(ball(radius), spacing)
    middle, longest = middle_of(region)
    step = config.spacing_mm or config.over_lesion * longest / min(config.voxels)
    distance = cut_patch(region, region.lesion, PLAN, config)[-1]
    expected = np.clip(radius - radii(config.voxels, step, middle, centre), -20.0, 20.0)
    error = np.abs(distance - expected)
    # The study's voxels and the patch's both round the surface to half a voxel.
    assert error.max() <= 0.5 * (step if step == max(spacing) else step + max(spacing))
    assert np.sqrt((error**2).mean()) <= 0.35 * max(step, *spacing)


def test_distances_of_a_slab_are_counted_from_between_the_voxels():
    mask = np.zeros((5, 5, 8), bool)
    mask[..., 3:] = True
    assert signed_distance(mask, 2.0)[2, 2].tolist() == [-5.0, -3.0, -1.0, 1.0, 3.0, 5.0, 7.0, 9.0]


def test_distances_end_at_20_mm_both_ways():
    mask = np.zeros((3, 3, 20), bool)
    mask[..., 10:] = True
    row = signed_distance(mask, 4.0)[1, 1]
    assert (row[0], row[4], row[5], row[14], row[19]) == (-20.0, -20.0, -18.0, 18.0, 20.0)


def test_where_no_surface_is_in_sight_all_is_as_far_as_can_be():
    assert (signed_distance(np.ones((3, 4, 5), bool), 1.0) == 20.0).all()
    assert (signed_distance(np.zeros((3, 4, 5), bool), 1.0) == -20.0).all()


def test_a_patch_between_two_far_pieces_shows_no_lesion():
    region = make_region(lambda where: ball(3, (24, 26, 5))(where) | ball(3, (24, 26, 51))(where))
    patch = cut_patch(region, region.lesion, PLAN, PatchConfig(voxels=(16, 16, 16), spacing_mm=1.0))
    assert (patch[-1] == -20.0).all()
    assert (patch[0] > 0).mean() > 0.9


@pytest.mark.parametrize("over", [1.5, 2.0, 3.0])
def test_the_box_is_so_many_times_the_lesions_longest_side(over):
    region = make_region(block((14, 18, 24)))
    config = PatchConfig(voxels=(48, 60, 72), over_lesion=over)
    mask = cut_patch(region, region.lesion, PLAN, config)[-1] > 0
    sides = np.ptp(np.argwhere(mask), axis=0) + 1
    # 24 mm, the longest, times `over` is the box's shortest side: 48 voxels.
    np.testing.assert_allclose(sides, np.array([14, 18, 24]) * 48 / (24 * over), atol=1.01)
    for index, axis in enumerate(((1, 2), (0, 2), (0, 1))):
        seen = np.flatnonzero(mask.any(axis))
        assert abs(0.5 * (seen[0] + seen[-1]) - 0.5 * (config.voxels[index] - 1)) <= 0.5


def test_a_fixed_spacing_shows_the_same_millimetres_whatever_the_lesion():
    for radius in (5, 10):
        region = make_region(ball(radius))
        mask = cut_patch(region, region.lesion, PLAN, PatchConfig(voxels=(32, 32, 32), spacing_mm=1.0))[-1] > 0
        assert mask.sum() == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.05)


def test_the_spacing_by_hand_and_never_a_box_of_nothing_but_a_speck():
    config = PatchConfig(voxels=(40, 36, 48), over_lesion=1.5)
    assert box_spacing(24.0, config) == pytest.approx(1.0)  # 1.5 * 24 mm over 36 voxels
    assert box_spacing(1.0, config) == box_spacing(12.0, config) == pytest.approx(0.5)
    assert box_spacing(24.0, PatchConfig(spacing_mm=2.0)) == 2.0


def test_channels_are_the_plans_of_the_voxels_they_lie_on():
    region = make_region(block((5, 5, 5), (20, 22, 24)))
    patch = cut_patch(region, region.lesion, PLAN, PatchConfig(voxels=(9, 11, 13), spacing_mm=1.0))
    # The block's middle voxel is (22, 24, 26); the patch has 4, 5 and 6 voxels on either side of it.
    pre, first, second, third = region.phases[:, 18:27, 19:30, 20:33].astype(np.float32)
    expected = [
        np.clip(item, low, high) / scale
        for item, low, high, scale in zip(
            (pre, first - pre, second - first, third - first), LOW, HIGH, SCALE, strict=True
        )
    ]
    np.testing.assert_allclose(patch[:-1], expected, atol=1e-5)
    assert patch.shape == (5, 9, 11, 13)
    assert patch.dtype == np.float32
    assert patch.flags.c_contiguous


def test_a_left_breast_comes_out_as_the_right_one_it_mirrors():
    inside = lambda where: ball(8, (24, 26, 28))(where) | ball(5, (27, 26, 38))(where)  # noqa: E731 - not symmetric
    right = make_region(inside, (2.0, 0.8, 0.8))
    flipped = right.lesion[..., ::-1]
    left = BreastRegion(
        np.ascontiguousarray(right.phases[..., ::-1]), right.breast, flipped, right.grid, right.start, "left"
    )
    one, other = (cut_patch(item, item.lesion, PLAN, PatchConfig()) for item in (right, left))
    np.testing.assert_allclose(one[:-1], other[:-1], atol=1e-4)
    assert np.mean(one[-1] == other[-1]) > 0.999  # a voxel at just one half may fall either way
    assert np.abs(one[-1] - one[-1][..., ::-1]).max() > 3  # mirroring shows


def test_only_the_outline_in_the_breasts_box_counts():
    region = make_region(ball(8))
    more = region.lesion.copy()
    more[0, 0, 0] = more[-1, -1, -1] = True  # in the study, outside the box
    config = PatchConfig()
    np.testing.assert_array_equal(cut_patch(region, more, PLAN, config), cut_patch(region, region.lesion, PLAN, config))


def test_another_outline_than_the_reference_moves_the_box():
    region = make_region(ball(8))
    predicted = make_region(ball(8, np.subtract(CENTRE, (4, 0, 0)))).lesion
    config = PatchConfig(voxels=(17, 17, 17), spacing_mm=1.0)
    here, there = (cut_patch(region, lesion, PLAN, config) for lesion in (region.lesion, predicted))
    np.testing.assert_array_equal(here[-1], there[-1])
    np.testing.assert_allclose(here[:-1, :-4], there[:-1, 4:], atol=1e-6)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_lesion_at_the_boxs_edge_is_cut_there_and_nothing_lies_beyond(axis):
    centre = np.array(CENTRE)
    centre[axis] = -0.5  # on the box's face, half a voxel before the first centre
    region = make_region(ball(9, centre))
    config = PatchConfig(voxels=(41, 41, 41), spacing_mm=0.8)
    patch = cut_patch(region, region.lesion, PLAN, config)
    middle, _ = middle_of(region)
    place = middle[axis] + 0.8 * (np.arange(41) - 20)
    beyond = np.moveaxis(patch, axis + 1, 0)[place < -0.51]
    assert len(beyond) > 8
    assert (beyond[:, :-1] == 0).all()
    assert (beyond[:, -1] < 0).all()
    within = np.moveaxis(patch, axis + 1, 0)[place > -0.49]
    assert (within[:, 0] > 0).mean() > 0.99
    assert (patch[-1] > 0).sum() * 0.8**3 == pytest.approx(2 / 3 * np.pi * 9**3, rel=0.05)  # half a ball


def test_a_lesion_larger_than_its_box_fills_it():
    region = make_region(ball(14))
    patch = cut_patch(region, region.lesion, PLAN, PatchConfig(voxels=(8, 8, 8), spacing_mm=1.0))
    assert (patch[-1] == 20.0).all()


def test_a_lesion_of_one_voxel_is_still_there():
    region = make_region(block((1, 1, 1), (20, 20, 20)))
    for config in (PatchConfig(), PatchConfig(spacing_mm=4.0)):
        patch = cut_patch(region, region.lesion, PLAN, config)
        assert (patch[-1] > 0).any()
        assert np.isfinite(patch).all()


@pytest.mark.parametrize("where", ["nowhere", "outside the breast"])
def test_an_outline_without_a_voxel_in_the_breast_is_refused(where):
    region = make_region(ball(8))
    lesion = np.zeros_like(region.lesion)
    lesion[0, 0, 0] = where != "nowhere"
    with pytest.raises(StudyError) as caught:
        cut_patch(region, lesion, PLAN, PatchConfig())
    assert caught.value.reason == "no_mask"


@pytest.fixture
def cuts(monkeypatch):
    """Patches cut, one entry each."""
    calls = []

    def counted(*arguments):
        calls.append(arguments)
        return cut_patch(*arguments)

    monkeypatch.setattr(lesion_patch, "cut_patch", counted)
    return calls


def test_a_patch_is_cut_once_and_read_back_as_it_was(tmp_path, cuts):
    region, config = make_region(ball(8)), PatchConfig()
    folder = keep_patch(tmp_path, "name", region, PLAN, config)
    written = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert keep_patch(tmp_path, "name", region, PLAN, config) == folder
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == written
    assert len(cuts) == 1
    patch = open_patch(folder)
    assert patch.dtype == np.float32
    assert patch.tobytes() == cut_patch(region, region.lesion, PLAN, config).tobytes()


def test_a_damaged_patch_is_cut_anew(tmp_path, cuts):
    region = make_region(ball(8))
    folder = keep_patch(tmp_path, "name", region, PLAN, PatchConfig())
    before = (folder / "patch.npy").read_bytes()
    (folder / "patch.npy").write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    keep_patch(tmp_path, "name", region, PLAN, PatchConfig())
    assert (folder / "patch.npy").read_bytes() == before
    assert len(cuts) == 2


def test_another_study_plan_or_box_is_another_entry(tmp_path, monkeypatch):
    region = make_region(ball(8))
    folders = {
        keep_patch(tmp_path, name, region, plan, config)
        for name, plan, config in (
            ("name", PLAN, PatchConfig()),
            ("other", PLAN, PatchConfig()),
            ("name", PLAN.model_copy(update={"scale": (1.0, 1.0, 1.0, 1.0)}), PatchConfig()),
            ("name", PLAN, PatchConfig(over_lesion=2.0)),
            ("name", PLAN, PatchConfig(spacing_mm=1.0)),
            ("name", PLAN, PatchConfig(voxels=(36, 36, 32))),
        )
    }
    assert len(folders) == 6
    assert {folder.parent for folder in folders} == {tmp_path / "patches"}
    monkeypatch.setattr(lesion_patch, "VERSION", lesion_patch.VERSION + 1)
    assert keep_patch(tmp_path, "name", region, PLAN, PatchConfig()) not in folders


def test_a_case_without_a_reference_has_no_patch_and_leaves_no_entry(tmp_path):
    region = make_region(ball(8))
    bare = BreastRegion(region.phases, region.breast, None, region.grid, region.start, region.side)
    empty = BreastRegion(
        region.phases, region.breast, np.zeros_like(region.lesion), region.grid, region.start, region.side
    )
    for item in (bare, empty):
        with pytest.raises(StudyError) as caught:
            keep_patch(tmp_path, "name", item, PLAN, PatchConfig())
        assert caught.value.reason == "no_mask"
    assert not list(tmp_path.rglob("*.npy"))
