"""The spatial multi-task network: regions in mm, pooling against a slow reference, empty regions, learning."""

import math

import pytest
import torch

from shared.models import spatial_multitask
from shared.models.spatial_multitask import MARKERS, SOFTNESS_MM, SpatialMultitask, memberships, region_statistics


def sphere(radius_mm, spacing_mm, side):
    """Signed distance `(1, 1, side, side, side)` to a sphere in the middle of the grid, clipped as patches are."""
    axis = (torch.arange(side) - (side - 1) / 2) * spacing_mm
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    return (radius_mm - torch.sqrt(z**2 + y**2 + x**2)).clamp(-20, 20)[None, None]


def small(**changes):
    torch.manual_seed(0)
    return SpatialMultitask(2, **{"channels": (8, 8, 8), **changes})


def set_borders(monkeypatch, rim, surroundings):
    monkeypatch.setattr(spatial_multitask, "RIM_MM", rim)
    monkeypatch.setattr(spatial_multitask, "SURROUNDINGS_MM", surroundings)


def patch(distance, seed=0):
    image = torch.rand((1, 2, *distance.shape[2:]), generator=torch.Generator().manual_seed(seed))
    return torch.cat([image, distance], dim=1)


def shared_input(net, x):
    seen = []
    handle = net.shared.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    net(x)
    handle.remove()
    return seen[0]


def test_four_outputs_of_one_column_and_heads_named_for_the_server():
    net = SpatialMultitask(4)
    assert [tuple(item.shape) for item in net(torch.zeros(3, 5, 8, 10, 7))] == [(3, 1)] * 4
    names = {name for name, _ in net.named_parameters()}
    for marker in ("er", "pr", "her2", "ki67"):
        assert {f"heads.{marker}.weight", f"heads.{marker}.bias", f"log_variance.{marker}"} <= names
    assert list(net.heads) == list(MARKERS)


def test_the_parameters_are_those_counted_by_hand():
    def block(before, width):
        return 27 * width * (before + width) + 4 * width + before * width

    backbone = 27 * 2 * 16 + 2 * 16 + block(16, 32) + block(32, 64)
    attention = 3 * (27 * 5 + 1)
    measured = 3 * 2 * (2 + 16 + 32 + 64) + 3
    heads = 4 * (32 + 1)
    expected = backbone + attention + 4 * 3 + 2 * (2 + 16 + 32 + 64) + (measured * 32 + 32) + heads + 4
    assert sum(item.numel() for item in SpatialMultitask(4).parameters()) == expected


def test_the_regions_lie_where_the_distance_says(monkeypatch):
    set_borders(monkeypatch, 5, 10)
    depth = torch.tensor([9.0, 2.5, -5.0, -15.0]).reshape(1, 1, 1, 1, 4)
    expected = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    assert torch.allclose(memberships(depth)[0].reshape(3, 4), expected, atol=0.02)


def test_the_borders_are_half_and_half(monkeypatch):
    set_borders(monkeypatch, 3, 7)
    core, rim, around = memberships(torch.tensor([3.0, 0.0, -7.0]).reshape(1, 1, 1, 1, 3))[0].reshape(3, 3)
    assert core[0] == pytest.approx(0.5)
    assert rim[:2].tolist() == pytest.approx([0.5, 0.5], abs=0.01)
    assert around[1:].tolist() == pytest.approx([0.5, 0.5], abs=1e-5)


@pytest.mark.parametrize(("rim", "surround"), [(4.0, 10.0), (0.1, 0.2), (18.0, 18.0)])
def test_memberships_partition_the_neighbourhood(monkeypatch, rim, surround):
    set_borders(monkeypatch, rim, surround)
    regions = memberships(torch.linspace(-20, 20, 999).reshape(1, 1, 9, 37, 3))
    assert regions.min() >= 0
    assert regions.sum(1).max() <= 1 + 1e-6


def test_regions_have_the_same_volume_in_mm3_on_a_grid_twice_as_fine_and_that_of_spherical_shells(monkeypatch):
    set_borders(monkeypatch, 4, 6)
    coarse = memberships(sphere(10, 2.0, 24)).sum((0, 2, 3, 4)) * 2.0**3
    fine = memberships(sphere(10, 1.0, 48)).sum((0, 2, 3, 4)) * 1.0**3
    # A ball behind a logistic border of softness s holds the sharp ball and pi^2 s^2 r more (Sommerfeld's expansion).
    ball = [4 / 3 * math.pi * (radius**3 + (math.pi * SOFTNESS_MM) ** 2 * radius) for radius in (6, 10, 16)]
    shells = torch.tensor([ball[0], ball[1] - ball[0], ball[2] - ball[1]])
    assert torch.allclose(coarse, fine, rtol=0.03)
    assert torch.allclose(fine, shells, rtol=0.003)


def test_the_network_is_told_volumes_in_mm3_whatever_the_grid():
    coarse = shared_input(small(spacing_mm=2.0), patch(sphere(10, 2.0, 24)))[0, -3:]
    fine = shared_input(small(spacing_mm=1.0), patch(sphere(10, 1.0, 48)))[0, -3:]
    core = math.log1p(4 / 3 * math.pi * 6**3 / 64)
    assert torch.allclose(coarse, fine, atol=0.03)
    assert fine[0].item() == pytest.approx(core, rel=0.05)


def test_statistics_agree_with_a_slow_reference():
    generator = torch.Generator().manual_seed(1)
    features = torch.randn((2, 3, 2, 3, 4), generator=generator)
    regions = torch.rand((2, 3, 2, 3, 4), generator=generator) / 3
    got, prior = region_statistics(features, regions, 2.0), 2.0
    for n in range(2):
        near = regions[n].sum(0).flatten()
        lent = near / (near.sum() + prior)
        for r in range(3):
            share = regions[n, r].flatten() + prior * lent
            share = share / (regions[n, r].sum() + prior)
            for c in range(3):
                values = features[n, c].flatten()
                mean = sum(float(w) * float(v) for w, v in zip(share, values, strict=True))
                square = sum(float(w) * float(v) ** 2 for w, v in zip(share, values, strict=True))
                assert got[n, r, c].item() == pytest.approx(mean, abs=1e-5)
                assert got[n, r, 3 + c].item() == pytest.approx(math.sqrt(square - mean**2 + 1e-4) - 0.01, abs=1e-4)


def test_a_large_region_has_its_own_plain_mean_and_deviation():
    values = torch.tensor([1.0, 3.0]).repeat(4000).reshape(1, 1, 20, 20, 20)
    inside = torch.ones(1, 1, 20, 20, 20)
    mean, deviation = region_statistics(values, torch.cat([inside, 0 * inside, 0 * inside], dim=1), 1.0)[0, 0].tolist()
    assert mean == pytest.approx(2.0, rel=1e-3)
    assert deviation == pytest.approx(1.0, rel=0.02)


def test_an_empty_region_reads_its_neighbourhood():
    values = torch.full((1, 1, 10, 10, 10), 5.0)
    regions = torch.zeros(1, 3, 10, 10, 10)
    regions[:, 1:] = 0.5
    assert region_statistics(values, regions, 1.0)[0, 0, 0].item() == pytest.approx(5.0, rel=2e-3)


@pytest.mark.parametrize("radius", [-30.0, 0.5, 2.0, 60.0], ids=["none", "voxel", "no core", "all core"])
def test_empty_regions_give_finite_outputs_and_no_larger_gradients(radius):
    def gradients(distance):
        net = small()
        x = patch(distance).requires_grad_()
        torch.cat(net(x), dim=1).square().sum().backward()
        assert x.grad.isfinite().all()
        return torch.stack([item.grad.norm() for item in net.parameters() if item.grad is not None])

    odd = gradients(sphere(radius, 2.0, 16))
    assert odd.isfinite().all()
    assert odd.norm() < 10 * gradients(sphere(9, 2.0, 16)).norm()


def test_flat_patches_have_finite_gradients():
    net = small()
    x = torch.zeros(2, 3, 8, 8, 8, requires_grad=True)
    torch.cat(net(x), dim=1).sum().backward()
    assert x.grad.isfinite().all()
    assert all(item.grad.isfinite().all() for item in net.parameters() if item.grad is not None)


def test_only_the_first_phase_is_read():
    torch.manual_seed(0)
    net = SpatialMultitask(4, channels=(8, 8))
    x = torch.rand(1, 5, 8, 8, 8)
    later = x.clone()
    later[:, 2:4] += 9
    assert torch.equal(torch.cat(net(x)), torch.cat(net(later)))
    pre = x.clone()
    pre[:, 0] = torch.rand(8, 8, 8)
    assert not torch.allclose(torch.cat(net(x)), torch.cat(net(pre)), atol=1e-6)


def test_attention_starts_without_effect_and_learns_to_have_one():
    net = small()
    x = patch(sphere(6, 2.0, 16))
    before = torch.cat(net(x))
    for layer in net.attention:
        features = torch.rand(1, 8, 4, 4, 4)
        assert torch.equal(layer(features, torch.rand(1, 3, 4, 4, 4)), features)
    before.sum().backward()
    assert all(layer.conv.weight.grad.abs().sum() > 0 for layer in net.attention)
    torch.nn.init.constant_(net.attention[0].conv.bias, -20.0)
    assert not torch.allclose(torch.cat(net(x)), before, atol=1e-4)


def test_region_weights_start_equal_and_switch_a_region_off():
    net = small()
    seen = [torch.rand(2, 3, len(scores)) for scores in net.region_scores]
    assert all(torch.equal(net.region_weights(grid, part), torch.ones(2, 3)) for grid, part in enumerate(seen))
    with torch.no_grad():
        net.region_logits[:, 2] = -50.0
    for grid, part in enumerate(seen):
        assert torch.allclose(net.region_weights(grid, part), torch.tensor([1.5, 1.5, 0.0]).expand(2, 3))
    statistics = shared_input(net, patch(sphere(6, 2.0, 16)))[0, :12].reshape(3, 4)
    assert statistics[2].abs().max() < 1e-6
    assert statistics[:2, :2].min() > 0.1


def test_region_weights_depend_on_the_case_so_that_no_linear_layer_can_take_their_place():
    net = small()
    torch.manual_seed(3)
    for scores in net.region_scores:
        torch.nn.init.normal_(scores)
    cases = [patch(sphere(radius, 2.0, 16), seed=seed) for seed, radius in enumerate((4, 8, 12))]
    weighted = torch.cat([shared_input(net, case) for case in cases])
    with torch.no_grad():
        kept = [scores.clone() for scores in net.region_scores]
        for scores in net.region_scores:
            scores.zero_()
        plain = torch.cat([shared_input(net, case) for case in cases])
        for scores, before in zip(net.region_scores, kept, strict=True):
            scores.copy_(before)
    # A fixed weight would be the same factor of a column in every case, and fold into the next layer.
    factors = (weighted / plain)[:, plain.abs().amin(0) > 1e-3]
    assert (factors.amax(0) / factors.amin(0) - 1).max() > 0.2
    sum(answer.sum() for answer in net(cases[0])).backward()
    assert all(scores.grad.abs().sum() > 0 for scores in net.region_scores)


def coarser(regions):
    """Each coarse place is the mean of the fine ones a strided 3x3x3 convolution sees there, inside the grid."""
    sides = [range(0, side, 2) for side in regions.shape[2:]]
    windows = [[slice(max(0, at - 1), at + 2) for at in side] for side in sides]
    means = [regions[:, :, a, b, c].mean((2, 3, 4)) for a in windows[0] for b in windows[1] for c in windows[2]]
    return torch.stack(means, dim=2).reshape(*regions.shape[:2], *(len(side) for side in sides))


def test_each_scale_is_pooled_in_register_by_its_own_weights_with_the_same_mm3_lent():
    net = small(spacing_mm=2.0)
    torch.nn.init.normal_(net.region_logits)
    for scores in net.region_scores:
        torch.nn.init.normal_(scores)
    features = []
    for layer in net.attention:
        layer.register_forward_hook(lambda _, __, out: features.append(out))
    distance = sphere(5, 2.0, 11).roll((3, 2, 4), dims=(2, 3, 4))  # reaches the grid's border, on sides that are odd
    got = shared_input(net, patch(distance))[0, 12:-3].reshape(3, 3, 16)
    regions = memberships(distance)
    for level in range(3):
        seen = region_statistics(features[level], regions, 8 / 8**level)[0]
        scores = torch.stack([(net.region_scores[level + 1] * part).sum() for part in seen])
        expected = 3 * torch.softmax(scores + net.region_logits[level + 1], dim=0)[:, None] * seen
        assert torch.allclose(got[level], expected, atol=1e-5)
        regions = coarser(regions)


def test_the_level_of_enhancement_survives_the_normalisation():
    net = small()
    x = patch(sphere(6, 2.0, 16))
    brighter = x.clone()
    brighter[:, :2] *= 2
    first, second = shared_input(net, x)[0, :12], shared_input(net, brighter)[0, :12]
    means = [index for index in range(12) if index % 4 < 2]
    assert torch.allclose(second[means], 2 * first[means], rtol=1e-4)


def test_each_patch_of_a_batch_is_read_on_its_own():
    net = small()
    both = torch.cat([patch(sphere(6, 2.0, 16)), patch(sphere(12, 2.0, 16), seed=1)])
    assert torch.allclose(torch.cat(net(both), dim=1)[1:], torch.cat(net(both[1:]), dim=1), atol=1e-5)


def test_the_same_seed_gives_the_same_outputs_and_gradients():
    def once():
        net = small()
        out = torch.cat(net(patch(sphere(6, 2.0, 16))), dim=1)
        out.sum().backward()
        return out.detach(), net.blocks[0][0].weight.grad

    assert all(torch.equal(one, two) for one, two in zip(once(), once(), strict=True))


def test_ki67_starts_near_a_fifth():
    assert abs(small()(patch(sphere(8, 2.0, 16)))[3].item() - 2.0) < 1.5


def test_it_learns_which_region_enhances():
    # One patient's rim enhances, the other's core; the outlines are the same.
    distance = sphere(10, 2.0, 16)
    net = small()
    core, rim, _ = memberships(distance)[0]
    cases = [torch.stack([torch.zeros_like(core), region, distance[0, 0]]) for region in (core, rim)]
    x, truth = torch.stack(cases), torch.tensor([[0.0], [1.0]])
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for _ in range(30):
        optimiser.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(net(x)[0], truth).backward()
        optimiser.step()
    assert net(x)[0][0] < -1
    assert net(x)[0][1] > 1


def test_wrong_constructions_and_patches_are_refused():
    with pytest.raises(ValueError, match="subtraction are needed"):
        SpatialMultitask(1)
    with pytest.raises(ValueError, match="3 channels: expected 4"):
        SpatialMultitask(4)(torch.zeros(1, 3, 8, 8, 8))
