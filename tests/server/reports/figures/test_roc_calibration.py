"""Figures of scores: a curve's area is that of the ranks, bins hold nearly equal counts."""

import numpy as np
import pytest

from server.reports.figures.roc_calibration import calibration_bins, roc_points


def test_the_curve_has_the_area_of_the_ranks_and_equal_scores_make_one_step():
    truth, score = np.array([1, 0, 1, 1, 0, 0, 1]), np.array([0.9, 0.8, 0.8, 0.4, 0.4, 0.1, 0.3])
    wrong, right = roc_points(truth, score)
    assert (wrong[0], right[0], wrong[-1], right[-1]) == (0, 0, 1, 1)
    assert len(wrong) == 6  # five distinct scores and the origin
    pairs = [(p > n) + 0.5 * (p == n) for p in score[truth == 1] for n in score[truth == 0]]
    assert np.trapezoid(right, wrong) == pytest.approx(np.mean(pairs))


def test_calibration_bins_have_nearly_equal_counts_and_never_part_equal_scores():
    truth, score = np.tile([0, 1], 13), np.linspace(0, 1, 26)
    bins = calibration_bins(truth[::-1], score[::-1])
    assert [n for *_, n in bins] == [5, 5, 5, 5, 6]
    assert bins[0][:2] == pytest.approx((score[:5].mean(), 2 / 5))
    assert calibration_bins([0, 1, 1], [0.2, 0.4, 0.9]) == [(pytest.approx(0.5), pytest.approx(2 / 3), 3)]
    tied = calibration_bins([0, 1] * 10, [0.3] * 14 + [0.8] * 6)
    assert [(mean, n) for mean, _, n in tied] == [(pytest.approx(0.3), 14), (pytest.approx(0.8), 6)]
