from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ConfigError, RunError
from shared.modalities.mri.fingerprint import (
    FIXED,
    LARGEST_BOX,
    SAMPLES,
    SiteFingerprint,
    fingerprint_region,
    make_plan,
)
from shared.modalities.mri.intensity import to_channels
from shared.modalities.mri.plan import COARSEST_MM, Extraction
from shared.modalities.mri.region import extract_region
from shared.preprocessing.histograms import (
    INTENSITY_EDGES,
    SIZE_EDGES,
    SPACING_EDGES,
    VOLUME_EDGES,
    count,
)


@pytest.fixture
def three(make_study, config):
    options = [
        {"side": "left"},
        {"side": "right", "spacing": (3.0, 2.5, 2.5)},
        {"side": "left", "bilateral": False, "spacing": (3.0, 3.0, 4.0), "lesion_at": (8.0, 30.0, 70.0)},
    ]
    extraction = Extraction.of(config.preprocessing)
    return [
        fingerprint_region(extract_region(*make_study(seed=number, **item), item["side"], extraction))
        for number, item in enumerate(options)
    ]


def test_merging_gives_the_same_bits_in_any_order(three):
    zero = SiteFingerprint.empty(3)
    merged = {str(sum(order, start=zero).to_dict()) for order in permutations(three)}
    first, second, third = three
    merged |= {str((first + (second + third)).to_dict()), str(((first + second) + third).to_dict())}
    assert len(merged) == 1


def test_the_merged_fingerprint_is_that_of_the_union(three, make_study, config):
    merged = sum(three, start=SiteFingerprint.empty(3))
    assert merged.n == 3
    np.testing.assert_array_equal(merged.spacing[0], count([4.0, 3.0, 3.0], SPACING_EDGES))
    np.testing.assert_array_equal(merged.spacing[2], count([3.0, 2.5, 4.0], SPACING_EDGES))
    volumes = []
    for number, options in enumerate(
        [
            {"side": "left"},
            {"side": "right", "spacing": (3.0, 2.5, 2.5)},
            {"bilateral": False, "spacing": (3.0, 3.0, 4.0)},
        ]
    ):
        place = {"lesion_at": (8.0, 30.0, 70.0)} if number == 2 else {}
        study, lesion = make_study(seed=number, **options, **place)
        volumes.append(lesion.sum() * np.prod(study.grid.spacing) / 1000)
    np.testing.assert_array_equal(merged.volume, count(volumes, VOLUME_EDGES))


def test_intensities_are_those_of_the_breast(make_study, config):
    study, lesion = make_study("left", spacing=(3.0, 2.0, 2.0))
    region = extract_region(study, lesion, "left", Extraction.of(config.preprocessing))
    fingerprint = fingerprint_region(region)
    values = to_channels(region.phases[:, region.breast]).astype(np.float64)
    assert values.shape[1] > SAMPLES
    assert fingerprint.intensity.sum(axis=1).tolist() == [SAMPLES] * 4
    # Sums over the sample against the whole breast's: four standard errors.
    error = 4 * values.std(axis=1) / np.sqrt(SAMPLES) + 1 / FIXED
    assert (np.abs(fingerprint.total / FIXED / SAMPLES - values.mean(axis=1)) < error).all()
    squares = values**2
    error = 4 * squares.std(axis=1) / np.sqrt(SAMPLES) + 1 / FIXED
    assert (np.abs(fingerprint.square / FIXED / SAMPLES - squares.mean(axis=1)) < error).all()
    sizes = [count([side], SIZE_EDGES) for side in region.size_mm]
    np.testing.assert_array_equal(fingerprint.size, sizes)


def test_only_whole_numbers_leave_and_they_come_back(three):
    flat = three[0].to_dict()
    assert all(type(value) is int for values in flat.values() for value in values)
    assert SiteFingerprint.from_dict(flat, 3) == three[0]
    assert SiteFingerprint.from_dict(flat, 3) != three[1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cases": [2]}, "do not hold"),
        ({"cases": [1, 1]}, "must be 1 whole"),
        ({"volume": [0.5] * (len(VOLUME_EDGES) - 1)}, "whole numbers"),
        ({"volume": [2] * (len(VOLUME_EDGES) - 1)}, "do not hold"),
        ({"square": [-1, 0, 0, 0]}, "no count"),
        ({"square": [2**70, 0, 0, 0]}, "no count"),
        ({"cases": [2**20 + 1]}, "no count of at most"),
        ({"cases": [-1]}, "no count of at most"),
        ({"total": [SAMPLES * 24 * FIXED + 1, 0, 0, 0]}, "no count"),  # beyond what a case's samples can sum to
        ({"square": [0, SAMPLES * 24**2 * FIXED + 1, 0, 0]}, "no count"),
        ({"intensity": [0] * (4 * (len(INTENSITY_EDGES) - 1))}, "do not hold"),  # no voxel: there is no quantile
        ({"note": [1]}, "exactly"),
    ],
)
def test_a_senders_nonsense_is_refused(three, change, message):
    with pytest.raises(ValueError, match=message):
        SiteFingerprint.from_dict({**three[0].to_dict(), **change}, 3)


def test_fingerprints_of_other_channels_do_not_merge(three):
    with pytest.raises(ValueError, match="channels"):
        three[0] + SiteFingerprint.empty(2)
    with pytest.raises(ValueError, match="whole numbers"):
        SiteFingerprint.from_dict(three[0].to_dict(), 2)


def by_hand(spacings, size, cases=1, squares=(64, 16, 4, 4), samples=100):
    """A fingerprint of `cases` equal studies a spacing; `size` in mm lies at the upper end of its bin."""
    fingerprint = SiteFingerprint.empty(3)
    for spacing in spacings:
        for axis in range(3):
            fingerprint.spacing[axis] += cases * count([spacing[axis]], SPACING_EDGES)
            fingerprint.size[axis] += cases * count([size[axis] - 1e-6], SIZE_EDGES)
        fingerprint.cases[0] += cases
    fingerprint.intensity[:, 200] = samples
    fingerprint.square[:] = np.array(squares) * FIXED
    return fingerprint


@given(
    cases=st.integers(2, 10_000),
    fewer=st.floats(0, 1, exclude_max=True),
    bins=st.lists(st.integers(0, len(SPACING_EDGES) - 2), min_size=1, max_size=40),
)
def test_fewer_of_its_cases_have_the_same_quantiles(cases, fewer, bins):
    # A hundred of a thousand cases, no two alike, are still a hundred and lie where the thousand did.
    site = SiteFingerprint.empty(3)
    draws = np.random.default_rng(cases).multinomial(cases, np.full(len(bins), 1 / len(bins)), size=3)
    for axis in range(3):
        np.add.at(site.spacing[axis], bins, draws[axis])
    site.cases[0], site.square[:], site.total[0] = cases, 2**52, -(2**50)
    kept = max(1, int(fewer * cases))
    part = site.scaled(kept)
    assert part.n == kept
    assert (part.spacing >= 0).all()
    assert (part.spacing.sum(axis=1) == kept).all()
    reached, whole = part.spacing.cumsum(axis=1), site.spacing.cumsum(axis=1)
    assert (np.abs(reached * cases - whole * kept) < cases).all()  # no quantile is off by a whole case
    assert np.allclose(part.square, 2**52 * (kept / cases), rtol=1e-9)
    assert part.total[0] == pytest.approx(-(2**50) * kept / cases, rel=1e-9)


def middle_of_bin(value):
    """What the median of values in one bin is taken for: the bin's middle."""
    index = int(count([value], SPACING_EDGES).argmax())
    return 0.5 * (SPACING_EDGES[index] + SPACING_EDGES[index + 1])


def test_spacing_is_the_median_of_all_sites_cases_and_the_box_is_rounded_up(make_config):
    # Five cases of 2.0 mm slices against four of 3.0 mm: the median is a 2.0.
    merged = by_hand([(2.0, 1.5, 1.5)], (96.0, 84.0, 90.0), 5) + by_hand([(3.0, 1.5, 1.5)], (96.0, 84.0, 90.0), 4)
    plan = make_plan(merged, make_config(max_voxels=10**6))
    # Within its bin (0.8% wide) the median stands at 4.5 of 5 cases.
    assert plan.spacing_mm[0] == pytest.approx(2.0, rel=0.009)
    assert plan.spacing_mm[1] == pytest.approx(middle_of_bin(1.5), abs=1e-4)
    # 96 mm at 2.0 mm: 48 voxels or a little more or less, in sixteens; 84 at 1.5: 56 -> 64; 90: 60 -> 64.
    assert plan.crop_voxels[1:] == (64, 64)
    assert plan.crop_voxels[0] in (48, 64)
    assert all(
        side * step >= 0.97 * size
        for side, step, size in zip(plan.crop_voxels, plan.spacing_mm, (96, 84, 90), strict=True)
    )


def test_channels_are_scaled_by_their_root_mean_square_changes_by_the_first_uptakes(config):
    plan = make_plan(by_hand([(2.0, 1.5, 1.5)], (96.0, 84.0, 90.0), squares=(64, 16, 4, 4), samples=100), config)
    assert plan.scale == (0.8, 0.4, 0.4, 0.4)
    # All values lie in bin 200, from 2.0 to 2.05.
    assert INTENSITY_EDGES[200] == pytest.approx(2.0)
    assert plan.low == pytest.approx((2.0,) * 4, abs=1e-3)
    assert plan.high == pytest.approx((2.05,) * 4, abs=1e-3)


def test_a_box_too_large_widens_the_spacing_and_each_axis_takes_back_its_slack(make_config):
    merged = by_hand([(2.0, 1.5, 1.5)], (96.0, 96.0, 96.0), 20)
    plan = make_plan(merged, make_config(max_voxels=64 * 64 * 48))
    assert plan.crop_voxels == (48, 64, 64)
    # 95% of a 2 mm bin that ends at 96 mm: 95.9 mm over 48 and 64 voxels.
    size = 94.0 + 0.95 * 2.0
    assert plan.spacing_mm == pytest.approx((max(middle_of_bin(2.0), size / 48), size / 64, size / 64), abs=1e-3)
    smaller = make_plan(merged, make_config(max_voxels=40_000))
    assert np.prod(smaller.crop_voxels) <= 40_000
    for side, step, wide in zip(smaller.crop_voxels, smaller.spacing_mm, plan.spacing_mm, strict=True):
        assert side * step >= size - 0.01
        assert side % 16 == 0
        assert step >= wide - 1e-3


def test_thick_slices_take_the_tenth_percentile(make_config):
    thick = by_hand([(5.0, 0.7, 0.8)], (96.0, 84.0, 90.0), 8) + by_hand([(3.0, 0.7, 0.8)], (96.0, 84.0, 90.0), 2)
    plan = make_plan(thick, make_config(max_voxels=10**8))
    assert plan.spacing_mm[0] == pytest.approx(3.0, rel=0.009)
    assert plan.spacing_mm[2] == pytest.approx(0.8, rel=0.009)


def test_what_the_configuration_gives_is_kept(make_config):
    merged = by_hand([(2.0, 1.5, 1.5)], (96.0, 84.0, 90.0))
    plan = make_plan(merged, make_config(spacing_mm=(3.0, 3.0, 3.0)))
    assert plan.spacing_mm == (3.0, 3.0, 3.0)
    assert plan.crop_voxels == (32, 32, 32)
    boxed = make_plan(merged, make_config(crop_voxels=(32, 32, 48)))
    assert boxed.crop_voxels == (32, 32, 48)
    # 95.9 mm in 32 voxels, 83.9 in 32, 89.9 in 48: each axis as fine as its box allows.
    assert boxed.spacing_mm == pytest.approx((95.9 / 32, 83.9 / 32, 89.9 / 48), abs=1e-3)


def test_a_plan_that_cannot_be_is_refused(make_config):
    merged = by_hand([(2.0, 1.5, 1.5)], (96.0, 84.0, 90.0))
    with pytest.raises(ConfigError, match="multiple of 16"):
        make_plan(merged, make_config(crop_voxels=(40, 64, 64)))
    with pytest.raises(ConfigError, match="max_voxels"):
        make_plan(merged, make_config(spacing_mm=(1.0, 1.0, 1.0)))
    with pytest.raises(RunError, match="no site"):
        make_plan(SiteFingerprint.empty(3), make_config())


def test_no_fingerprint_makes_a_box_too_large_nor_a_spacing_too_coarse(make_config):
    honest = by_hand([(2.0, 1.5, 1.5)], (96.0, 84.0, 90.0), 20)
    liar = by_hand([(0.2, 0.2, 0.2)], (400.0, 400.0, 400.0), 1000)
    patch = make_config().model_copy(update={"training": make_config().training.model_copy(update={"mode": "patch"})})
    plan = make_plan(honest + liar, patch)
    assert np.prod(plan.crop_voxels) <= LARGEST_BOX  # 8e9 at 0.2 mm
    assert min(plan.spacing_mm) > 1.2
    assert make_plan(honest, patch).spacing_mm == pytest.approx(
        [middle_of_bin(step) for step in (2, 1.5, 1.5)], rel=0.01
    )
    small = make_plan(honest + liar, make_config(max_voxels=4096))
    assert max(small.spacing_mm) == COARSEST_MM  # 400 mm in 16 voxels would be 25


def test_a_network_whose_smallest_box_is_too_large_is_refused_at_once(make_config):
    config = make_config(max_voxels=4096)
    deep = config.model_copy(update={"model": config.model.model_copy(update={"channels": (8,) * 6})})
    with pytest.raises(ConfigError, match="smallest box of this network has 262144 voxels, more than 4096"):
        make_plan(by_hand([(2.0, 1.5, 1.5)], (96.0, 84.0, 90.0)), deep)
