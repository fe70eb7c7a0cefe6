"""Sums that merge: a monoid, its means and intervals against numpy and scipy on the cases themselves."""

import json
import math
from functools import reduce
from operator import add

import numpy as np
import pytest
from scipy import stats

from shared.metrics.overlap import case_metrics
from shared.metrics.sums import Moments, SegmentationSums, pooled_f1


def case(shift, empty=False):
    reference, prediction = np.zeros((2, 12, 12, 12), bool)
    reference[2:8, 2:8, 2:8] = True
    if not empty:
        prediction[2 + shift : 8 + shift, 2:8, 2:8] = True
    return case_metrics(prediction, reference, (2.0, 1.0, 1.0), nsd_tolerance_mm=1.0, lesion_overlap=0.1)


CASES = [case(0), case(1), case(2), case(3), case(0, empty=True)]


def total(cases):
    return reduce(add, map(SegmentationSums.of, cases), SegmentationSums())


def test_merged_sites_equal_all_cases_together():
    merged, together = total(CASES[:2]) + total(CASES[2:]), total(CASES)
    assert merged.to_dict() == pytest.approx(together.to_dict())
    assert SegmentationSums() + together == together + SegmentationSums() == together


def test_means_and_t_intervals_are_those_of_the_cases():
    dice = [item.dice for item in CASES]
    found = total(CASES).dice
    assert found.mean == pytest.approx(np.mean(dice))
    assert found.deviation == pytest.approx(np.std(dice, ddof=1))
    expected = stats.t.interval(0.9, len(dice) - 1, loc=np.mean(dice), scale=stats.sem(dice))
    assert found.interval(0.9) == pytest.approx(expected)


def test_a_failed_case_counts_and_leaves_no_nan_in_any_mean():
    sums = total(CASES)
    assert (sums.n, sums.failures, sums.hd95_mm.n, sums.ppv.n) == (5, 1, 4, 4)
    assert sums.hd95_mm.mean == pytest.approx(np.mean([item.hd95_mm for item in CASES[:4]]))
    assert all(math.isfinite(value) for value in sums.to_dict().values())


def test_counts_and_lesions_add_up():
    sums = total(CASES)
    assert sums.voxels_tp == 216 + 180 + 144 + 108
    assert sums.voxels_fn == 36 + 72 + 108 + 216
    assert (sums.lesions_tp, sums.lesions_fp, sums.lesions_fn) == (4, 0, 1)
    assert sums.lesion_f1 == pytest.approx(2 * 4 / (2 * 4 + 1))


def test_the_statistic_of_the_bootstrap_is_the_same_f1():
    table = np.array([[item.lesions_tp, item.lesions_fp, item.lesions_fn] for item in CASES], float)
    weights = np.array([[1, 1, 1, 1, 1], [0, 2, 0, 0, 3.0]])
    expected = [total(CASES).lesion_f1, total([CASES[1]] * 2 + [CASES[4]] * 3).lesion_f1]
    np.testing.assert_allclose(pooled_f1(table, weights), expected)


def test_volume_differences_are_signed():
    assert total([CASES[4]]).volume_difference_ml.mean == pytest.approx(-216 * 2 / 1000)


def test_nothing_gives_no_mean_rather_than_nan():
    empty = SegmentationSums()
    assert empty.dice.mean is empty.dice.deviation is empty.dice.interval(0.95) is empty.lesion_f1 is None
    assert Moments.of(0.5).interval(0.95) is None  # one case has no spread


def test_equal_values_have_no_negative_variance():
    same = reduce(add, [Moments.of(0.1 + 0.2)] * 7)
    assert same.deviation == pytest.approx(0.0, abs=1e-7)


def test_sums_travel_as_numbers_and_come_back():
    sums = total(CASES)
    flat = json.loads(json.dumps(sums.to_dict()))
    assert all(isinstance(value, float) for value in flat.values())
    assert SegmentationSums.from_dict(flat) == sums


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"surplus": 1.0}, "surplus"),
        ({"n": -1.0}, "'n' is a count"),
        ({"dice.n": 2.5}, "'dice.n' is a count"),
        ({"dice.total": math.nan}, "not finite"),
        ({"nsd.squares": math.inf}, "not finite"),
    ],
)
def test_sums_that_cannot_be_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        SegmentationSums.from_dict(total(CASES).to_dict() | change)


def test_a_missing_name_is_refused():
    flat = total(CASES).to_dict()
    del flat["lesions_fn"]
    with pytest.raises(ValueError, match="lesions_fn"):
        SegmentationSums.from_dict(flat)
