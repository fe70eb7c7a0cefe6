"""Surface distances against the golden boxes and against every pair of points."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.distance import cdist

from shared.metrics.surface import assd, hd95, nsd, surface_distances

GOLDEN = json.loads((Path(__file__).resolve().parents[2] / "golden" / "statistics.json").read_text())["surface"]


def boxes():
    first = np.zeros((20, 20, 20), bool)
    second = first.copy()
    first[3:13, 3:13, 3:13] = True
    second[5:15, 4:14, 3:13] = True
    return first, second


def test_the_golden_boxes():
    distances = surface_distances(*boxes(), (3.0, 1.0, 1.0))
    assert distances.from_prediction.max() == pytest.approx(GOLDEN["hd"], abs=1e-8)
    assert hd95(distances) == pytest.approx(GOLDEN["hd95"], abs=1e-8)
    assert assd(distances) == pytest.approx(GOLDEN["assd"], abs=1e-8)
    for tolerance, expected in GOLDEN["nsd"].items():
        assert nsd(distances, float(tolerance)) == pytest.approx(expected, abs=1e-8)


def surface_points(mask, spacing):
    """Slow reference: a voxel with one of six neighbours outside."""
    padded = np.pad(mask, 1)
    steps = [(0, 1), (0, -1), (1, 1), (1, -1), (2, 1), (2, -1)]
    inner = np.logical_and.reduce([np.roll(padded, move, axis) for axis, move in steps])[1:-1, 1:-1, 1:-1]
    return np.argwhere(mask & ~inner) * np.asarray(spacing)


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(*[hnp.arrays(bool, (4, 5, 6)) for _ in range(2)]),
    st.tuples(*[st.sampled_from([0.5, 1.0, 2.7]) for _ in range(3)]),
)
def test_agrees_with_all_pairs_of_points(masks, spacing):
    prediction, reference = masks
    prediction[0, 0, 0] = reference[3, 4, 5] = True
    table = cdist(surface_points(prediction, spacing), surface_points(reference, spacing))
    there, back = table.min(axis=1), table.min(axis=0)
    found = surface_distances(prediction, reference, spacing)
    np.testing.assert_allclose(np.sort(found.from_prediction), np.sort(there), atol=1e-12)
    np.testing.assert_allclose(np.sort(found.from_reference), np.sort(back), atol=1e-12)
    assert hd95(found) == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)))
    assert assd(found) == pytest.approx(np.concatenate([there, back]).mean())


def test_a_mask_at_the_edge_of_the_volume_has_a_surface_there():
    full = np.ones((3, 3, 3), bool)
    assert surface_distances(full, full, (1, 1, 1)).from_prediction.size == 26


def test_hd95_takes_the_larger_direction_not_the_pooled_percentile():
    reference = np.zeros((1, 1, 200), bool)
    reference[..., :100] = True
    prediction = reference.copy()
    prediction[..., 100:110] = True  # 10 of 110 predicted voxels lie 1 to 10 mm outside; no reference voxel is missed
    distances = surface_distances(prediction, reference, (1, 1, 1))
    directed = np.percentile(np.r_[np.zeros(100), np.arange(1, 11)], 95)
    assert hd95(distances) == pytest.approx(directed)
    assert hd95(distances) > np.percentile(np.r_[distances.from_prediction, distances.from_reference], 95)


def test_swapping_the_masks_changes_nothing():
    first, second = boxes()
    second[15, 15, 15] = True
    one, two = surface_distances(first, second, (3, 1, 1)), surface_distances(second, first, (3, 1, 1))
    assert (hd95(one), assd(one), nsd(one, 2)) == pytest.approx((hd95(two), assd(two), nsd(two, 2)))


def test_masks_without_surfaces_or_on_other_grids_are_refused():
    first, _ = boxes()
    with pytest.raises(ValueError, match="empty mask"):
        surface_distances(first, np.zeros_like(first), (1, 1, 1))
    with pytest.raises(ValueError, match="not on one grid"):
        surface_distances(first, first[1:], (1, 1, 1))
