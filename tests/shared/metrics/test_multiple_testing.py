"""Adjusted p-values by hand."""

import numpy as np
import pytest

from shared.metrics.multiple_testing import adjust_p_values

P = np.array([0.01, 0.04, 0.03, 0.005])


def test_holm_by_hand():
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1: 0.02, 0.03, 0.06, 0.04, which may not fall: 0.06.
    assert adjust_p_values(P, "holm") == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_benjamini_and_hochberg_by_hand():
    # Sorted times 4/1, 4/2, 4/3, 4/4: 0.02, 0.02, 0.04, 0.04.
    assert adjust_p_values(P, "fdr_bh") == pytest.approx([0.02, 0.04, 0.04, 0.02])


@pytest.mark.parametrize("method", ["holm", "fdr_bh"])
def test_tests_that_do_not_exist_do_not_count(method):
    values = np.array([0.01, np.nan, 0.04, 0.03, np.nan, 0.005])
    adjusted = adjust_p_values(values, method)
    assert adjusted[[0, 2, 3, 5]] == pytest.approx(adjust_p_values(P, method))
    assert np.isnan(adjusted[[1, 4]]).all()
    assert np.isnan(adjust_p_values(np.array([np.nan]), method)).all()
    assert adjust_p_values(np.array([]), method).shape == (0,)
