"""What is measured of a lesion's image: numpy as a slow reference, and what must not change a measure."""

import math

import numpy as np
import pytest
import torch

from shared.models.lesion_measures import lesion_measures, measure_count
from tests.shared.models.drawn_lesions import (
    block,
    cells,
    ellipsoid,
    lopsided,
    moved,
    named,
    names,
    outline,
    patch,
    rotation,
    shape_names,
)


def uneven(semiaxes, channels=4, step=1.0):
    """A lesion with a bright rim, a dark middle, a slope across it, and more uptake on one side around it."""
    distance = ellipsoid(semiaxes, step=step)
    x = patch(distance, channels)
    depth = distance / distance.max()
    side = torch.from_numpy(cells(36, 1.0, distance.ndim)[-1]).float()
    x[0, 1] += 0.03 * side - 0.2 * depth - 0.7 * (depth > 0.7) - 0.8 * (depth < 0) + 0.4 * ((depth < 0) & (side > 0))
    x[0, 2:-1] += 0.3 * depth
    return x


def by_numpy(x, step):
    """Every column that reads the image, voxel by voxel."""
    image, distance = x[0, :-1].double().numpy(), x[0, -1].double().numpy()
    lesion, depth = distance > 0, distance / distance.max()
    level = image[1][lesion].mean()
    relative = image[1] / level
    outer = lesion & (depth < 0.5)
    found = {f"late.{channel}": image[channel][lesion].mean() / level for channel in range(2, len(image))}
    if found:
        found["late.outer"] = image[-1][outer].mean() / image[1][outer].mean()
    bounds = [(0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1)]
    first, second, third, inner = (relative[lesion & (depth > low) & (depth <= high)].mean() for low, high in bounds)
    slopes = []
    for place in np.argwhere(distance > 1.25 * step):
        along = np.eye(len(place), dtype=int)
        rises = [(relative[tuple(place + one)] - relative[tuple(place - one)]) / (2 * step) for one in along]
        slopes.append(math.hypot(*rises))
    rings = [relative[(distance <= -near) & (distance > -far)] for near, far in ((0, 2), (2, 4), (4, 8))]
    return found | {
        "outer less second": first - second,
        "second less third": second - third,
        "inner": inner,
        "dark": (relative[distance > 2] < 0.5).mean(),
        "spread": np.log(relative[lesion & (relative > 0.4)]).std(),
        "slope": math.log(np.mean(slopes)),
        "q10": np.quantile(relative[lesion], 0.1),
        "q90": np.quantile(relative[lesion], 0.9),
        **{f"ring.{number}": ring.mean() for number, ring in enumerate(rings)},
        **{f"ring spread.{number}": rings[number].std() for number in (1, 2)},
    }


@pytest.mark.parametrize("channels", [2, 3, 4, 5])
@pytest.mark.parametrize(("semiaxes", "step"), [((6, 9, 11), 1.0), ((5, 6, 4), 0.5), ((13, 8), 1.0), ((6, 7), 0.5)])
def test_columns_of_the_image_agree_with_numpy(semiaxes, step, channels):
    x = uneven(semiaxes, channels, step)
    found, expected = named(x, step), by_numpy(x, step)
    image = [name for name in names(channels, len(semiaxes)) if name not in shape_names(len(semiaxes))]
    assert list(expected) == image
    for name in image:
        assert found[name] == pytest.approx(expected[name], abs=1e-3), name
    assert len({round(value, 4) for value in expected.values()}) == len(image)  # no column passes for another


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("channels", [2, 3, 4, 5])
def test_the_count_of_measures_is_their_width(channels, dimensions):
    x = patch(ellipsoid((6,) * dimensions, 20), channels)
    assert lesion_measures(torch.cat([x, x])).shape == (2, measure_count(channels, dimensions))
    assert measure_count(channels, dimensions) == len(names(channels, dimensions))
    assert measure_count(channels) == measure_count(channels, 3)


def test_a_bright_rim_and_a_dark_middle_by_hand():
    distance = ellipsoid((12, 12, 12))
    depth = distance / distance.max()
    shells = [(depth > low) & (depth <= low + 0.25) for low in (0, 0.25, 0.5, 0.75)]
    x = patch(distance)
    x[0, 1] = 0.6
    for shell, uptake in zip(shells, (3.0, 2.0, 1.5, 0.3), strict=True):
        x[0, 1][shell] = uptake
    counts = [int(shell.sum()) for shell in shells]
    level = np.dot(counts, (3.0, 2.0, 1.5, 0.3)) / sum(counts)
    found = named(x)
    assert found["outer less second"] == pytest.approx(1.0 / level, abs=1e-4)
    assert found["second less third"] == pytest.approx(0.5 / level, abs=1e-4)
    assert found["inner"] == pytest.approx(0.3 / level, abs=1e-4)
    assert found["dark"] == pytest.approx(counts[3] / int((distance > 2).sum()), abs=1e-4)
    assert found["q10"] == pytest.approx(1.5 / level, abs=1e-4)  # the dark middle is a sixtieth of the ball
    for ring in range(3):
        assert found[f"ring.{ring}"] == pytest.approx(0.6 / level, abs=1e-4)


@pytest.mark.parametrize("step", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_slope_is_counted_by_the_millimetre(step, dimensions):
    distance = ellipsoid((10 * step,) * dimensions, step=step)
    x = patch(distance)
    places = [torch.from_numpy(item).float() for item in cells(36, step, dimensions)]
    x[0, 1] = 2.0 + 0.03 / step * places[0] - 0.04 / step * places[-1]  # 0.05 of 2 a voxel, whichever way
    assert named(x, step)["slope"] == pytest.approx(math.log(0.025 / step), abs=1e-3)


@pytest.mark.parametrize("step", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_lesion_too_thin_for_an_inside_has_the_usual_slope(step, dimensions):
    """Half an edge is the depth of two layers of voxels; of four it is one and a half."""
    thin, thick = (patch(block((layers * step, *[12 * step] * (dimensions - 1)), step=step)) for layers in (2, 4))
    for x in (thin, thick):
        x[0, 1] = 2.0 + 0.1 * torch.from_numpy(cells(36, step, dimensions)[-1]).float()
    assert named(thin, step)["slope"] == pytest.approx(math.log(0.08), abs=1e-4)
    assert named(thick, step)["slope"] == pytest.approx(math.log(0.05), abs=1e-3)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_what_is_read_of_the_image_survives_what_augmentation_does(dimensions):
    distance = ellipsoid((9, 10, 8)[:dimensions])
    x = patch(distance)
    x[0, 1] = 1.5 - 0.05 * distance.clamp(-12, 12)
    x[0, 2], x[0, 3] = 0.2 + 0.02 * distance, 0.1 - 0.03 * distance
    before = named(x, 1.0)
    for scale in (0.85, 1.0, 1.15):
        for turn in ((0,), (70,)) if dimensions == 2 else ((0, 0, 0), (20, 50, 70)):
            after = named(moved(x, rotation(*turn), scale), 1 / scale if dimensions == 2 else None)
            for name in names(4, dimensions):
                if name not in shape_names(dimensions):
                    assert after[name] == pytest.approx(before[name], abs=0.05), name


def test_one_voxel_has_no_shells_to_compare_and_no_inside():
    speck = np.zeros((16, 16, 16), bool)
    speck[8, 8, 8] = True
    found = named(patch(outline(speck)))
    assert (found["outer less second"], found["second less third"], found["dark"]) == (0.0, 0.0, 0.0)
    assert found["inner"] == found["q10"] == found["q90"] == pytest.approx(1.0)


def test_a_shell_without_a_voxel_counts_as_average():
    distance = block((4, 12, 12))  # 0.5 and 1.5 deep: thirds, so that the first and the third shell are empty
    x = patch(distance)
    x[0, 1] = torch.where(distance == 1.5, 1.0, 3.0)
    deep, shallow = 2 * 10 * 10, 4 * 12 * 12 - 2 * 10 * 10
    level = (deep + 3 * shallow) / (deep + shallow)
    found = named(x)
    assert found["outer less second"] == pytest.approx(1 - 3 / level, abs=1e-4)
    assert found["second less third"] == pytest.approx(3 / level - 1, abs=1e-4)
    assert found["inner"] == pytest.approx(1 / level, abs=1e-4)


def test_late_changes_end_at_2_and_hardly_any_uptake_is_not_blown_up():
    x = patch(ellipsoid((6, 7, 8), 24))
    x[:, 2:4] = torch.tensor([90.0, -90.0]).reshape(1, 2, 1, 1, 1)
    found = named(x)
    assert (found["late.2"], found["late.3"], found["late.outer"]) == (2.0, -2.0, -2.0)
    x[:, 1:-1] = torch.tensor([1e-3, 2e-3, -3e-3]).reshape(1, 3, 1, 1, 1)
    found = named(x)
    expected = {"late.2": 0.02, "late.3": -0.03, "late.outer": -0.03, "inner": 0.01, "q90": 0.01, "ring.0": 0.01}
    for name, value in expected.items():  # over 0.1, which is as little as uptake counts
        assert found[name] == pytest.approx(value, rel=1e-3), name


@pytest.mark.parametrize("dimensions", [2, 3])
def test_mirrors_change_nothing(dimensions):
    x = lopsided(dimensions)
    edge = torch.ones(1) if dimensions == 2 else None
    for axis in range(2, x.ndim):
        mirrored = lesion_measures(x.flip(axis), edge)
        torch.testing.assert_close(mirrored, lesion_measures(x, edge), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("dimensions", "axes"), [(3, (2, 3)), (3, (3, 4)), (3, (2, 4)), (2, (2, 3))])
def test_quarter_turns_change_nothing(dimensions, axes):
    x = lopsided(dimensions)
    edge = torch.ones(1) if dimensions == 2 else None
    turned = lesion_measures(x.rot90(1, axes), edge)
    torch.testing.assert_close(turned, lesion_measures(x, edge), rtol=1e-4, atol=1e-4)


def test_each_lesion_is_measured_alone():
    one, other = lopsided(), patch(ellipsoid((5, 7, 9)), seed=1)
    both = lesion_measures(torch.cat([one, other]))
    alone = torch.cat([lesion_measures(one), lesion_measures(other)])
    torch.testing.assert_close(both, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("gain", [-3.0, 0.0, 1.4, 1000.0])
def test_a_gain_before_contrast_changes_nothing_at_all(gain, dimensions):
    x = uneven((9, 6, 8)[:dimensions])
    louder = x.clone()
    louder[:, 0] *= gain
    assert torch.equal(lesion_measures(louder, torch.ones(1)), lesion_measures(x, torch.ones(1)))


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("gain", [0.25, 0.6, 1.7, 8.0])
def test_a_gain_of_the_enhancement_changes_nothing_at_all(gain, dimensions):
    x = uneven((9, 6, 8)[:dimensions])
    louder = x.clone()
    louder[:, 1:-1] *= gain
    before, after = lesion_measures(x, torch.ones(1)), lesion_measures(louder, torch.ones(1))
    if gain in {0.25, 8.0}:  # powers of 2 round nothing
        assert torch.equal(after, before)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("fill", ["noise", "flat", "zero", "negative"])
def test_measures_are_finite_whatever_the_lesion_and_the_image(fill, channels, dimensions):
    empty = np.zeros([16] * dimensions, bool)
    speck, corner, sheet, hollow = empty.copy(), empty.copy(), empty.copy(), ~empty
    speck[(8,) * dimensions] = corner[(0,) * dimensions] = sheet[8] = True
    hollow[(4,) * dimensions] = False
    for mask in (speck, corner, sheet, hollow, ~empty, empty):
        x = patch(outline(mask, 0.5), channels)
        if fill == "flat":
            x[:, :-1] = 1.5
        x[:, :-1] *= {"zero": 0.0, "negative": -3.0}.get(fill, 1.0)
        x.requires_grad_()
        found = lesion_measures(x)
        assert found.isfinite().all()
        assert found.abs().max() < 100
        found.sum().backward()  # explanations ask for the gradient
        assert x.grad.isfinite().all()


@pytest.mark.parametrize("x", [lopsided(), patch(block((12, 20)))])
def test_half_precision_around_it_does_not_reach_it(x):
    edge = torch.ones(1)
    with torch.autocast("cpu", torch.bfloat16):
        found = lesion_measures(x, edge)
    assert found.dtype == torch.float32
    assert torch.equal(found, lesion_measures(x, edge))
