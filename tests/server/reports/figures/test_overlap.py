"""Figures of one structure: each case is a mark at its Dice, failures are crosses."""

import numpy as np
import pandas as pd
import pytest

from server.reports.figures.overlap import dice_by_size, dice_strip
from server.reports.figures.style import ACCENT, INK
from tests.server.reports.figures.rows import marks, row

DICE, FAILED = pd.Series([0.5, 1.0, 0.0, 0.75]), pd.Series([False, False, True, False])
SIZE = pd.Series([1.0, 2.0, 4.0, 8.0])


def test_each_case_is_a_mark_at_its_dice():
    svg = dice_strip(DICE, FAILED, row(0.5625, 0.2, 0.9), name="strip", description="text")
    good = marks(svg, INK)
    heights = good[np.argsort(good[:, 0]), 1]  # three cases in order of Dice: 0.5, 0.75, 1; y runs down
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], rel=1e-3)
    assert len(heights) == 3
    assert "n = 4" in svg
    assert "nothing predicted" in svg


def test_dice_stands_over_the_logarithm_of_the_size():
    svg = dice_by_size(DICE, FAILED, SIZE, label="volume, ml", name="size", description="text")
    across = marks(svg, ACCENT)[:, 0]  # 1, 2 and 8 ml
    assert across[2] - across[1] == pytest.approx(2 * (across[1] - across[0]), rel=1e-3)
    assert "volume, ml (log scale, n = 4)" in svg


def test_without_cases_the_figure_draws():
    none = pd.Series(dtype=float)
    failed = none.astype(bool)
    assert "n = 0" in dice_by_size(none, failed, none, label="volume", name="size", description="text")
    assert "n = 0" in dice_strip(none, failed, row(None), name="strip", description="text")
