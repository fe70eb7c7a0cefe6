"""Pieces of a prediction: how large, how certain, and which are kept."""

import numpy as np
import pytest

from shared.config.run_config import parse_config
from shared.tasks.lesion_pieces import candidates, certain_pieces


def config(**inference):
    raw = {"name": "t", "data": {"root": "d", "sites": ["a"]}, "inference": inference}
    return parse_config(raw, "t")


def volume(*pieces):
    """Probabilities on voxels of 10 x 10 x 10 mm, 1 ml each: `(first, last, probability)` along x."""
    probability = np.zeros((1, 1, 20), np.float32)
    for first, last, value in pieces:
        probability[0, 0, first:last] = value
    return probability, (10.0, 10.0, 10.0)


def test_pieces_are_connected_large_enough_and_as_certain_as_their_mean():
    probability, spacing = volume((0, 4, 0.6), (6, 7, 0.9), (10, 12, 0.8), (15, 17, 0.4))
    probability[0, 0, 3] = 1.0
    pieces, certainty = candidates(probability, spacing, config(threshold=0.5, min_lesion_ml=1.5))
    np.testing.assert_array_equal(pieces[0, 0], [1] * 4 + [0] * 6 + [2] * 2 + [0] * 8)
    assert certainty == pytest.approx([0.7, 0.8])


def test_the_largest_piece_is_the_measure_and_a_speck_however_certain_is_not():
    own = config(threshold=0.5, min_lesion_ml=0.0, relative_certainty=0.9)
    pieces, certainty = candidates(*volume((0, 5, 0.7), (7, 8, 0.99), (10, 12, 0.6)), own)
    np.testing.assert_array_equal(certain_pieces(pieces, certainty, own)[0, 0], [1] * 5 + [0] * 2 + [1] + [0] * 12)
    nothing = candidates(*volume(), own)
    assert not certain_pieces(*nothing, own).any()
