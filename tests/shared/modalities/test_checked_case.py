"""A case as `check` keeps it, and its small pictures."""

import json

import numpy as np

from shared.modalities.checked_case import BOX, HEIGHT, LESION, WIDEST, CheckedCase, SeenSeries, panel


def test_a_case_comes_back_from_json_as_it_was():
    seen = CheckedCase([SeenSeries(3, "GR", taken=True, number=5)], {"spacing_mm": [1.0, 2.0, 3.0]}, ["a note."])
    seen.reason, seen.detail = "no_mask", "why"
    back = CheckedCase.from_dict(json.loads(json.dumps(seen.to_dict())), [])
    assert back == seen


def test_a_panel_keeps_proportions_and_a_lesion_of_one_pixel():
    plane = np.linspace(0.0, 10.0, 400 * 300, dtype=np.float32).reshape(400, 300)
    lesion, box = np.zeros(plane.shape, bool), np.zeros(plane.shape, bool)
    lesion[200, 150], box[100:300, 50:250] = True, True
    drawn = panel("x", plane, (0.5, 1.0), (0.0, 10.0), lesion=lesion, box=box)
    assert drawn.grey.shape == (HEIGHT, WIDEST)  # 200 mm x 300 mm
    assert drawn.grey[0, 0] < 5
    assert drawn.grey[-1, -1] > 250
    y, x = np.nonzero(drawn.lines == LESION)
    assert abs(y.mean() - HEIGHT / 2) < 2
    assert abs(x.mean() - WIDEST / 2) < 2
    assert (drawn.lines == BOX).sum() > 100


def test_a_plane_without_contrast_or_with_values_that_are_no_numbers_is_drawn():
    plane = np.full((10, 10), np.nan, np.float32)
    assert panel("x", plane, (1.0, 1.0), (3.0, 3.0)).grey.max() == 0
