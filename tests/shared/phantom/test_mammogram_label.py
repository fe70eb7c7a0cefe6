"""The burnt-in marker."""

import numpy as np
import pytest

from shared.phantom.mammogram_label import burn_in, draw_text


def test_letters_are_as_drawn():
    text = draw_text("L")
    assert text.shape == (7, 6)
    assert text.sum() == 11
    assert text[:, 0].all()


@pytest.mark.parametrize("tilted", [False, True])
@pytest.mark.parametrize("side", ["left", "right"])
def test_the_marker_is_at_the_top_away_from_the_chest_wall(side, tilted):
    marked = burn_in(np.zeros((300, 200)), side, "MLO", 100.0, tilted=tilted)
    rows, columns = np.nonzero(marked > 10.0)
    assert 60.0 < marked.max() <= 90.0
    assert rows.max() < 120
    assert (columns > 80).all() if side == "left" else (columns < 120).all()


def test_left_and_right_cc_and_mlo_have_markers_of_their_own():
    pictures = {burn_in(np.zeros((90, 200)), "left", view, 1.0, tilted=False).tobytes() for view in ("CC", "MLO")}
    pictures |= {burn_in(np.zeros((90, 200)), "right", view, 1.0, tilted=False).tobytes() for view in ("CC", "MLO")}
    assert len(pictures) == 4
