"""The preview of a centre: one row per exam, the lesion outlined, the same bytes each time."""

from dataclasses import replace

import matplotlib.image as mpimg
import numpy as np
import pytest

from shared.phantom.montage import draw_montage


def test_a_row_for_each_exam_and_an_outline_in_the_column_of_the_mask(small_exam, tmp_path):
    exam = small_exam("A")
    draw_montage([exam], tmp_path / "one.png", seed=1)
    draw_montage([exam, exam, exam], tmp_path / "three.png", seed=1)
    one, three = (mpimg.imread(tmp_path / name)[..., :3] for name in ("one.png", "three.png"))
    # Three rows are higher than one by twice the height of a row, in inches times 100 dpi.
    row = max(6 * 1.5, 5 * 2.5) * 0.0105 * 100
    assert three.shape[0] - one.shape[0] == pytest.approx(2 * row, abs=1)
    yellow = (one[..., 0] > 0.6) & (one[..., 2] < 0.3)
    assert yellow.any()
    left, right = np.nonzero(yellow.any(axis=0))[0][[0, -1]]
    assert right - left < one.shape[1] / 7 + 20  # within one of the seven columns


def test_the_same_exams_give_the_same_bytes_and_another_lesion_gives_others(small_exam, tmp_path):
    exam = small_exam("A")
    for name in ("first.png", "second.png"):
        draw_montage([exam], tmp_path / name, seed=1)
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()
    moved = replace(exam, lesion=np.roll(exam.lesion, 1, axis=2))
    draw_montage([moved], tmp_path / "moved.png", seed=1)
    assert (tmp_path / "moved.png").read_bytes() != (tmp_path / "first.png").read_bytes()
