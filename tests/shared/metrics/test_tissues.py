"""Overlap and density of tissues against masks counted by hand, and their sums."""

import math
from functools import reduce
from operator import add

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.metrics.tissues import TissueSums, tissue_metrics, tissue_surfaces

SPACING = (2.0, 1.0, 5.0)  # 0.01 ml a voxel


def masks(breast, gland, shape=(6, 12, 12)):
    found = np.zeros((2, *shape), bool)
    found[(0, *breast)] = True
    found[(1, *gland)] = True
    return found


BREAST, GLAND = np.s_[0:4, 0:10, 0:10], np.s_[0:4, 0:5, 0:4]  # 400 and 80 voxels
REFERENCE = masks(BREAST, GLAND)


def test_dice_volume_and_density_are_those_counted_by_hand():
    # The breast loses a fifth, the gland moves by one of its five rows.
    found = tissue_metrics(masks(np.s_[0:4, 0:8, 0:10], np.s_[0:4, 1:6, 0:4]), REFERENCE, SPACING)
    assert found.dice == pytest.approx((2 * 320 / 720, 2 * 64 / 160))
    assert found.volume_ml == pytest.approx((3.2, 0.8))
    assert found.reference_volume_ml == pytest.approx((4.0, 0.8))
    assert (found.density_percent, found.reference_density_percent) == pytest.approx((25.0, 20.0))
    assert found.density_error == pytest.approx(5.0)
    flat = found.to_dict()
    assert flat["dice_breast"] == found.dice[0]
    assert flat["reference_volume_ml_fibroglandular"] == found.reference_volume_ml[1]
    assert len(flat) == 8


def test_the_reference_itself_is_perfect():
    found = tissue_metrics(REFERENCE, REFERENCE, SPACING)
    assert found.dice == (1.0, 1.0)
    assert found.density_error == 0.0


def test_without_a_predicted_breast_there_is_no_density_and_no_error():
    found = tissue_metrics(np.zeros_like(REFERENCE), REFERENCE, SPACING)
    assert (found.dice, found.density_percent, found.density_error) == ((0.0, 0.0), None, None)
    sums = TissueSums.of(found)
    assert (sums.n, sums.dice_breast.n, sums.density_error.n) == (1, 1, 0)


def test_a_breast_without_gland_has_density_zero():
    fatty = REFERENCE.copy()
    fatty[1] = False
    found = tissue_metrics(fatty, fatty, SPACING)
    assert (found.density_percent, found.dice[1]) == (0.0, 1.0)


def test_surfaces_are_a_step_apart_where_the_mask_is_moved_by_one():
    moved = np.roll(REFERENCE, 1, axis=1)  # along z, 2 mm
    found = tissue_surfaces(moved, REFERENCE, SPACING, nsd_tolerance_mm=2.0)
    assert found == {"hd95_mm_breast": 2.0, "nsd_breast": 1.0, "hd95_mm_fibroglandular": 2.0, "nsd_fibroglandular": 1.0}
    strict = tissue_surfaces(moved, REFERENCE, SPACING, nsd_tolerance_mm=1.9)
    assert 0.0 < strict["nsd_breast"] < 1.0
    nothing = tissue_surfaces(np.zeros_like(moved), REFERENCE, SPACING, nsd_tolerance_mm=2.0)
    assert (nothing["hd95_mm_breast"], nothing["nsd_breast"]) == (None, 0.0)


@pytest.mark.parametrize("wrong", [REFERENCE[:, :5], REFERENCE[:1]])
def test_masks_that_are_no_pairs_are_refused(wrong):
    for measure in (tissue_metrics, lambda *given: tissue_surfaces(*given, nsd_tolerance_mm=2.0)):
        with pytest.raises(ValueError, match="are not 2 pairs"):
            measure(wrong, REFERENCE[: len(wrong)] if len(wrong) == 1 else REFERENCE, SPACING)


def random_case(seed):
    rng = np.random.default_rng(seed)
    pair = rng.random((2, 2, 4, 5, 6)) < rng.random((2, 2, 1, 1, 1))
    pair[:, 1] &= pair[:, 0]
    return tissue_metrics(pair[0], pair[1], SPACING)


cases = st.lists(st.integers(0, 10_000).map(random_case), max_size=6)


@given(cases, cases)
def test_sums_of_sites_are_the_sums_of_all_their_cases_and_survive_the_message(here, there):
    def total(some):
        return reduce(add, map(TissueSums.of, some), TissueSums())

    merged, whole = total(here) + total(there), total([*here, *there])
    assert merged.to_dict() == pytest.approx(whole.to_dict())
    assert TissueSums.from_dict(merged.to_dict()) == merged
    if here + there:
        errors = [case.density_error for case in here + there if case.density_error is not None]
        assert merged.density_error.n == len(errors)
        if errors:
            assert merged.density_absolute.mean == pytest.approx(np.abs(errors).mean())
            assert merged.density_error.mean == pytest.approx(np.mean(errors))
        assert merged.score == pytest.approx(np.mean([case.dice for case in here + there]))
    else:
        assert merged.score is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"surplus": 1.0}, "surplus"),
        ({"n": -1.0}, "tissue sums: 'n' is a count"),
        ({"dice_breast.n": 0.5}, "'dice_breast.n' is a count"),
        ({"dice_breast.n": 2.0}, "contradicts"),
        ({"density_error.n": 2.0}, "contradicts"),
        ({"density_error.n": 0.0}, "contradicts"),
        ({"density_error.total": math.nan}, "not finite"),
    ],
)
def test_sums_that_cannot_be_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        TissueSums.from_dict(TissueSums.of(tissue_metrics(REFERENCE, REFERENCE, SPACING)).to_dict() | change)
