"""The oracle itself: its threshold is pROC's, and no other cut is better."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.shared.metrics.exact_scores import youden_threshold

TRUTH = [0] * 12 + [1] * 8
SCORE = [0.1, 0.2, 0.2, 0.3, 0.35, 0.4, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.3, 0.5, 0.6, 0.65, 0.7, 0.8, 0.85, 0.9]


def test_the_cut_is_proc_s():
    assert youden_threshold(TRUTH, SCORE) == pytest.approx(0.575)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=25))
def test_no_cut_is_better(cases):
    truth, score = np.array([t for t, _ in cases]), np.array([float(s) for _, s in cases])
    cut = youden_threshold(truth, score)
    if truth.all() or not truth.any():
        assert cut is None
        return

    def gain(threshold):
        called = score >= threshold
        return called[truth].mean() + (~called[~truth]).mean() - 1

    assert gain(cut) == pytest.approx(max(gain(other) for other in np.arange(-0.25, 7.0, 0.5)))
