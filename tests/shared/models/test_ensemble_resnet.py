"""The subtype ensemble's branches: what each sees, that none sees more, and what is added to its network's logits."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from shared.models.ensemble_resnet import BRANCHES, MEASURED_GAIN, PLANES, Branch, build_resnet, relative_channels
from shared.models.lesion_measures import lesion_measures, measure_count, plane_measures
from tests.shared.models.drawn_ensembles import patches, small, with_heads

PLACES = [10, 12, 14]
"""Planes of 24 voxels a side."""


class Probe(nn.Module):
    """Keeps what a branch is given."""

    def forward(self, image, measures):
        self.image, self.measures = image, measures
        return measures[:, :4]


def probed(x):
    model = small(x.shape[1] - 1)
    probes = {name: Probe() for name in BRANCHES}
    for name, probe in probes.items():
        model.branches[name] = probe
    model(x)
    return probes


def rulers(x, place):
    """A patch whose first late change tells the place, in tenths where `relative_channels` are read."""
    x = x.clone()
    x[:, 1], x[:, 2] = 1.0, place / 20
    return x


def own_measures(x):
    return [*(plane_measures(x, axis, PLACES) for axis in range(3)), lesion_measures(x)]


def weighed(**options):
    """In evaluation, and with heads and linear terms that are not at their start of zero."""
    model = with_heads(small(**options)).eval()
    for branch in model.branches.values():
        nn.init.normal_(branch.measured.linear.weight)
    return model


def test_branches_are_three_planes_and_the_volume_and_answer_in_that_order():
    assert BRANCHES == ("axial", "coronal", "sagittal", "volume")
    model = small()
    assert tuple(model.branches) == BRANCHES
    for number, name in enumerate(BRANCHES):
        nn.init.zeros_(model.branches[name].head.weight)
        nn.init.constant_(model.branches[name].head.bias, float(number))
    logits = model(patches(2))
    assert [tuple(item.shape) for item in logits] == [(2, 4)] * 4
    assert [item.unique().tolist() for item in logits] == [[0.0], [1.0], [2.0], [3.0]]


def test_each_plane_lies_across_its_own_axis_through_the_middle():
    sides = (24, 30, 36)
    places = torch.meshgrid(*(torch.arange(float(side)) for side in sides), indexing="ij")
    for axis, (name, place) in enumerate(zip(PLANES, places, strict=True)):
        image = probed(rulers(patches(1, sides=sides), place))[name].image
        assert image.shape == (1, 3 * 4, *(side for other, side in enumerate(sides) if other != axis))
        taken = [item.unique().tolist() for item in image[0, 1::4]]
        assert all(len(item) == 1 for item in taken), name
        first, middle, last = (10 * item[0] for item in taken)
        assert abs(middle - 0.5 * (sides[axis] - 1)) <= 0.501
        assert abs(last - middle - sides[axis] / 12) <= 0.501
        assert abs(middle - first - sides[axis] / 12) <= 0.501


def test_the_three_planes_of_the_default_patch_lie_evenly():
    image = probed(rulers(patches(1, sides=(36, 36, 36)), torch.arange(36.0)))["sagittal"].image
    assert (10 * image[0, 1::4, 0, 0]).tolist() == pytest.approx([15.0, 18.0, 21.0])


def test_a_plane_holds_all_channels_of_each_slice():
    x = patches(1, sides=(12, 12, 12))
    found = probed(x)["coronal"].image.reshape(3, 4, 12, 12)
    relative = relative_channels(x)[0]
    for slices, place in zip(found, (5, 6, 7), strict=True):
        assert torch.equal(slices, relative[:, :, place])


def test_the_volume_branch_sees_all_and_every_branch_what_is_measured_in_what_it_sees():
    x = patches(2)
    x[:, 1, 4:9, 6:12] += 1.0  # views differ
    probes = probed(x)
    assert torch.equal(probes["volume"].image, relative_channels(x))
    assert torch.equal(probes["volume"].measures, lesion_measures(x))
    for axis, name in enumerate(PLANES):
        assert torch.equal(probes[name].measures, plane_measures(x, axis, PLACES))
        assert not torch.allclose(probes[name].measures, plane_measures(x, (axis + 1) % 3, PLACES), atol=0.01)


def test_a_plane_in_an_unlike_box_is_measured_where_it_is_seen():
    x = patches(1, sides=(24, 30, 36))
    probes = probed(x)
    for axis, (name, places) in enumerate(zip(PLANES, ([10, 12, 14], [12, 15, 17], [15, 18, 21]), strict=True)):
        assert torch.equal(probes[name].measures, plane_measures(x, axis, places)), name


@pytest.mark.parametrize(("axis", "name"), list(enumerate(PLANES)))
def test_a_planes_branch_does_not_change_with_what_lies_off_its_planes(axis, name):
    model, x = weighed(), patches(2)
    off = torch.ones(24, dtype=torch.bool)
    off[PLACES] = False
    shape = [1, 1, 1]
    shape[axis] = 24
    away = off.reshape(shape) & (x[0, -1] <= 0)
    changed = x.clone()
    changed[:, :-1] = torch.where(away, 5.0 * torch.rand(x[:, :-1].shape), x[:, :-1])
    # Within the lesion a mean is read of the uptake, and nothing of the other channels.
    late = off.reshape(shape) & (x[0, -1] > 0)
    changed[:, 2:-1] = torch.where(late, -x[:, 2:-1], changed[:, 2:-1])
    with torch.no_grad():
        before, after = model(x), model(changed)
    for number, other in enumerate(BRANCHES):
        assert torch.equal(after[number], before[number]) == (other == name), other
    assert (after[3] - before[3]).abs().max() > 0.1


def test_of_the_lesions_uptake_off_its_planes_a_branch_reads_the_mean_alone():
    model, x = weighed(), patches(2)
    inside = x[0, -1] > 0
    inside[PLACES] = False
    shuffled = x.clone()
    order = torch.randperm(int(inside.sum()), generator=torch.Generator().manual_seed(0))
    shuffled[:, 1, inside] = x[:, 1, inside][:, order]
    louder = x.clone()
    louder[:, 1, inside] += 0.5
    with torch.no_grad():
        before, after, scaled = model(x), model(shuffled), model(louder)
    torch.testing.assert_close(after[0], before[0], rtol=1e-4, atol=1e-4)
    for number in (1, 2, 3):
        assert (after[number] - before[number]).abs().max() > 0.01
    assert (scaled[0] - before[0]).abs().max() > 0.01


@pytest.mark.parametrize(("index", "own"), list(enumerate(BRANCHES)))
def test_a_branchs_loss_reaches_all_of_that_branch_and_nothing_else(index, own):
    model = weighed().train()  # at their start of zero, heads and linear terms pass no gradient on
    model(patches(2))[index].square().sum().backward()
    for name, item in model.named_parameters():
        touched = item.grad is not None and bool(item.grad.any())
        assert touched == name.startswith(f"branches.{own}."), name


@pytest.mark.parametrize("dimensions", [2, 3])
def test_features_are_the_last_maps_means_and_in_planes_their_spreads(dimensions):
    torch.manual_seed(0)
    network = build_resnet(dimensions, 10, 4, 4, size="small").eval()
    maps, seen = [], []
    network.layer4.register_forward_hook(lambda _m, _i, out: maps.append(out.flatten(2)))
    branch = Branch(network, 4, dropout=0.0, measured=False).eval()
    branch.head.reset_parameters()
    branch.scaled.register_forward_hook(lambda _m, given, _o: seen.append(given[0]))
    logits = branch(torch.randn(3, 4, *[32] * dimensions), torch.zeros(3, measure_count(4, dimensions)))
    expected = [maps[0].mean(dim=2)] + ([maps[0].std(dim=2, correction=0)] if dimensions == 2 else [])
    torch.testing.assert_close(seen[0], torch.cat(expected, dim=1), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(logits, branch.head(branch.scaled(seen[0])))
    assert logits.std(dim=0).min() > 0.01


def test_maps_without_spread_have_a_finite_gradient():
    branch = Branch(build_resnet(2, 10, 4, 4, size="small"), 4, dropout=0.0, measured=False)
    branch.head.reset_parameters()
    nn.init.ones_(branch.network.layer4[-1].bn2.bias)  # above the rectifier, which would hide it
    image = torch.zeros(2, 4, 32, 32, requires_grad=True)
    branch(image, torch.zeros(2, measure_count(4, 2))).square().sum().backward()
    assert image.grad.isfinite().all()
    assert branch.network.layer4[-1].bn2.bias.grad.any()
    assert all(item.grad is None or item.grad.isfinite().all() for item in branch.parameters())


def test_the_linear_term_is_added_to_the_networks_logits():
    model = with_heads(small()).eval()
    x = patches(2)
    with torch.no_grad():
        before = model(x)
        assert all(item.any() for item in before)
        for number, branch in enumerate(model.branches.values()):
            branch.measured.linear.bias.fill_(1.0 + number)
            branch.measured.linear.weight.normal_()
        after = model(x)
        for branch, measures, first, second in zip(
            model.branches.values(), own_measures(x), before, after, strict=True
        ):
            expected = F.linear(
                branch.measured.standardise(measures), branch.measured.linear.weight, branch.measured.linear.bias
            )
            torch.testing.assert_close(second - first, MEASURED_GAIN * expected, rtol=1e-3, atol=1e-3)


def test_without_measures_there_is_no_linear_term():
    model = with_heads(small(measured=False)).eval()
    assert all(branch.measured is None for branch in model.branches.values())
    assert not [name for name in model.state_dict() if "measured" in name]
    x = patches(1)
    # Distances outside the lesion reach nothing but measures.
    farther = x.clone()
    farther[:, -1] = torch.where(x[:, -1] > 0, x[:, -1], 0.5 * x[:, -1])
    for here, there in zip(own_measures(x), own_measures(farther), strict=True):
        assert not torch.equal(here, there)
    with torch.no_grad():
        for here, there in zip(model(x), model(farther), strict=True):
            assert torch.equal(here, there)


def test_the_patches_are_left_as_they_were():
    x = patches(2)
    before = x.clone()
    small()(x)
    assert torch.equal(x, before)
