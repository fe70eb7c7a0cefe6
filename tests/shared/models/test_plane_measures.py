"""What is measured in planes through a volume: means of planes, cuts of balls by geometry, and what no plane sees."""

import math

import numpy as np
import pytest
import torch

from shared.models.lesion_measures import lesion_measures, measure_count, plane_measures, voxel_edge
from tests.shared.models.drawn_lesions import ellipsoid, lopsided, moved, names, outline, patch, rotation

PLACES = [15, 18, 21]


def two_lesions():
    return torch.cat([lopsided(), patch(ellipsoid((5, 12, 9)), seed=1)])


def cut(x, axis, place):
    """One plane of a patch by name, edge read in the volume."""
    return dict(zip(names(4, 2), plane_measures(x, axis, [place])[0].tolist(), strict=True))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_planes_are_measured_one_by_one_with_the_volumes_edge_and_averaged(axis):
    x = two_lesions()
    x[1, -1] *= 1.7  # edges of their own
    edge = voxel_edge(x[:, -1])
    assert edge.tolist() == pytest.approx([1.0, 1.7], rel=0.02)
    each = [lesion_measures(torch.from_numpy(x.numpy().take(place, 2 + axis)), edge) for place in PLACES]
    found = plane_measures(x, axis, PLACES)
    torch.testing.assert_close(found, sum(each) / 3, rtol=1e-5, atol=1e-6)
    assert found.shape == (2, measure_count(4, 2))
    assert torch.equal(plane_measures(x, axis, PLACES[1:2]), each[1])
    assert not torch.allclose(found, each[1], atol=0.01)


def test_each_axis_has_its_own_planes():
    x = two_lesions()
    first = plane_measures(x, 0, PLACES)
    torch.testing.assert_close(plane_measures(x.transpose(2, 3), 1, PLACES), first, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(plane_measures(x.transpose(2, 4), 2, PLACES), first, rtol=1e-4, atol=1e-4)
    for axis in (1, 2):
        assert (plane_measures(x, axis, PLACES) - first).abs().amax(dim=1).min() > 0.1


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_planes_that_miss_the_lesion_do_not_count(axis):
    halves = [9, 9, 9]
    halves[axis] = 2  # of the planes the middle one alone meets it
    x = torch.cat([lopsided(), patch(ellipsoid(halves), seed=1), patch(ellipsoid((9, 9, 9)).roll(12, axis), seed=2)])
    edge = voxel_edge(x[:, -1])
    each = torch.stack([lesion_measures(x.select(2 + axis, place), edge) for place in PLACES])
    met = [[bool((one[-1].select(axis, place) > 0).any()) for place in PLACES] for one in x]
    assert met == [[True, True, True], [False, True, False], [False, False, True]]
    expected = torch.stack([each[:, 0].mean(dim=0), each[1, 1], each[2, 2]])
    found = plane_measures(x, axis, PLACES)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert (found - each.mean(dim=0))[1:].abs().amax(dim=1).min() > 0.1


def test_where_all_planes_miss_the_lesion_all_count():
    x = two_lesions()
    each = [lesion_measures(x[:, :, place], voxel_edge(x[:, -1])) for place in (2, 10)]
    assert not (x[:, -1, [2, 10]] > 0).any()  # the one far away, the other in the rings
    torch.testing.assert_close(plane_measures(x, 0, [2, 10]), sum(each) / 2, rtol=1e-5, atol=1e-6)
    assert (each[0] - each[1]).abs().amax(dim=1).min() > 0.1


def test_an_edge_that_is_given_is_taken():
    x, edge = two_lesions(), torch.tensor([0.7, 1.6])
    each = [lesion_measures(x[:, :, place], edge) for place in PLACES]
    torch.testing.assert_close(plane_measures(x, 0, PLACES, edge), sum(each) / 3, rtol=1e-5, atol=1e-6)
    assert (plane_measures(x, 0, PLACES, edge) - plane_measures(x, 0, PLACES)).abs().amax(dim=1).min() > 0.1


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("step", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("height", [0.5, 5.5, 8.5])
def test_a_balls_cut_is_a_disc(axis, step, height):
    """Off the middle the outline runs obliquely: distances grow slowly in the plane, and nothing must come of it."""
    ball = 12.0
    found = cut(patch(ellipsoid((ball * step,) * 3, step=step)), axis, int(17.5 + height))
    radius = math.sqrt(ball**2 - height**2) * step
    side = math.sqrt(math.pi) * radius
    assert math.exp(found["size"]) == pytest.approx(side, rel=0.03)
    assert math.exp(found["surface"]) == pytest.approx(2 * math.pi * radius / side, rel=0.06)
    assert math.exp(found["depth"]) * side == pytest.approx(min((ball - height) * step, 20), abs=0.9 * step)
    assert found["longest over shortest"] == pytest.approx(0.0, abs=1e-3)
    assert math.exp(found["second moment"]) == pytest.approx(0.5 / math.pi, rel=0.03)
    assert found["fourth moment"] == pytest.approx(4 / 3, rel=0.02)


def test_an_ellipsoids_cuts_have_two_of_its_axes():
    x = patch(ellipsoid((6, 9, 13)))
    for axis, (one, other) in enumerate(((9, 13), (6, 13), (6, 9))):
        found = cut(x, axis, 18)
        assert math.exp(found["size"]) == pytest.approx(math.sqrt(math.pi * one * other), rel=0.02)
        assert math.exp(0.5 * found["longest over shortest"]) == pytest.approx(other / one, rel=0.04)


def test_a_planes_own_distances_do_not_tell_its_edge():
    x = patch(ellipsoid((12, 12, 12)))
    for place, share in ((18, 1.0), (27, math.sqrt(12**2 - 9.5**2) / 12)):
        own = voxel_edge(x[:, -1, place]).item()
        assert own < 1.02
        assert (own < 0.9) == (share < 0.9)


def test_cuts_of_a_magnified_lesion_keep_their_millimetres():
    x = patch(ellipsoid((10, 10, 10)))
    before = cut(x, 0, 18)
    for scale in (0.85, 1.15):
        # The middle is shifted, too.
        larger = moved(x, rotation(0, 0, 0), scale)
        place = int(torch.nonzero((larger[0, -1] > 0).flatten(1).any(dim=1)).float().mean().round())
        after = cut(larger, 0, place)
        assert after["size"] == pytest.approx(before["size"], abs=0.02)
        assert after["surface"] == pytest.approx(before["surface"], abs=0.05)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_what_lies_outside_the_planes_changes_nothing_but_the_edge(axis):
    x = two_lesions()
    off = [place for place in range(36) if place not in PLACES]
    image = x.clone()
    image[:, :-1].movedim(2 + axis, 2)[:, :, off] = 77.0
    assert torch.equal(plane_measures(image, axis, PLACES), plane_measures(x, axis, PLACES))
    assert (lesion_measures(image) - lesion_measures(x)).abs().max() > 1.0
    lesion = x.clone()
    distance = lesion[:, -1].movedim(1 + axis, 1)
    distance[:, off] = 1.5 * distance[:, off] - 3.0
    edge = voxel_edge(lesion[:, -1])
    assert (edge - voxel_edge(x[:, -1])).abs().min() > 0.05
    expected = sum(lesion_measures(x.select(2 + axis, place), edge) for place in PLACES) / 3
    torch.testing.assert_close(plane_measures(lesion, axis, PLACES), expected, rtol=1e-5, atol=1e-6)


def test_gains_of_the_scanner_change_nothing_in_planes():
    x = two_lesions()
    before = plane_measures(x, 1, PLACES)
    louder = x.clone()
    louder[:, 0] *= -40.0
    assert torch.equal(plane_measures(louder, 1, PLACES), before)
    louder[:, 1:-1] *= 0.5
    assert torch.equal(plane_measures(louder, 1, PLACES), before)
    louder[:, 1:-1] *= 3.4
    torch.testing.assert_close(plane_measures(louder, 1, PLACES), before, rtol=1e-4, atol=1e-4)


def test_planes_that_miss_the_lesion_are_finite_and_so_are_their_gradients():
    mask = np.zeros((36, 36, 36), bool)
    mask[18, 10:20, 10:20] = True
    x = patch(outline(mask)).requires_grad_()
    for axis, places in ((0, PLACES), (0, [0]), (1, [0, 35])):
        found = plane_measures(x, axis, places)
        assert found.isfinite().all()
        assert found.abs().max() < 100
        found.sum().backward()
    assert x.grad.isfinite().all()


def test_half_precision_around_planes_does_not_reach_them():
    x = two_lesions()
    with torch.autocast("cpu", torch.bfloat16):
        found = plane_measures(x, 2, PLACES)
    assert found.dtype == torch.float32
    assert torch.equal(found, plane_measures(x, 2, PLACES))
