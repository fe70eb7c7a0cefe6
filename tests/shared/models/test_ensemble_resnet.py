"""The subtype ensemble: branches apart, planes where they should be, published sizes, pretrained starts."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from shared.config_sections import SubtypeConfig
from shared.errors import ConfigError
from shared.models.ensemble_resnet import (
    BRANCHES,
    MEASURED_GAIN,
    PLANES,
    Branch,
    EnsembleResNet,
    build_resnet,
    relative_channels,
)
from shared.models.lesion_measures import lesion_measures, measure_count

SMALL = {"plane_depth": 10, "plane_width": 4, "volume_depth": 10, "volume_width": 4, "pretrained": "none"}
BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
TORCHVISION = {18: 11_689_512, 34: 21_797_672, 50: 25_557_032}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def small(channels=4, **options):
    torch.manual_seed(0)
    return EnsembleResNet(channels, SubtypeConfig(**{**SMALL, **options}))


def published(channels=4, **options):
    return EnsembleResNet(channels, SubtypeConfig(**{"size": "published", "pretrained": "none", **options}))


def patches(count, *, channels=4, sides=(24, 24, 24), seed=0):
    """Noise over a level near 1, and the distance of a ball in the middle."""
    draw = torch.Generator().manual_seed(seed)
    axes = [torch.arange(side) - 0.5 * (side - 1) for side in sides]
    place = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    distance = (min(sides) / 3 - place.norm(dim=0)).clamp(-20, 20).expand(count, 1, *sides)
    return torch.cat([1 + 0.3 * torch.randn((count, channels, *sides), generator=draw), distance], dim=1)


def count(module):
    return sum(item.numel() for item in module.parameters())


def features(depth):
    return 2048 if depth == 50 else 512


def resnet_by_hand(depth, channels, dims):
    """He 2016's layer table with kernels of side `k` in `dims` axes, a norm's two numbers a channel, no final layer."""

    def conv(before, after, k):
        return before * after * k**dims + 2 * after

    total, before = conv(channels, 64, 7), 64
    for stage, blocks in enumerate(BLOCKS[depth]):
        width = 64 * 2**stage
        after = 4 * width if depth == 50 else width
        for _ in range(blocks):
            if depth == 50:
                total += conv(before, width, 1) + conv(width, width, 3) + conv(width, after, 1)
            else:
                total += conv(before, width, 3) + conv(width, width, 3)
            total += conv(before, after, 1) if before != after else 0
            before = after
    return total


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


def test_relative_channels_by_hand():
    # Four voxels in a row, the first two lesion: mean uptake there is (1 + 3) / 2 = 2.
    x = torch.tensor([[0.7, 0.8, 0.9, 1.0], [1.0, 3.0, 0.2, 9.0], [0.5, -1.5, 0.3, 0.0], [2.0, 1.0, -0.0, -9.0]])
    distance = torch.tensor([0.5, 4.0, -0.5, -1.0])
    found = relative_channels(torch.cat([x, distance[None]]).reshape(1, 5, 1, 1, 4)).reshape(5, 4)
    expected = [
        [0.7, 0.8, 0.9, 1.0],  # pre-contrast as it was
        [0.5, 1.5, 0.1, 3.0],  # over 2; 4.5 is cut to 3
        [1.0, -1.0, 1.0, 0.0],  # twice the change over the uptake there, at least .3 * 2: 1, 3, .6, 9
        [4.0, 2 / 3, 0.0, -2.0],
        [1.0, 1.0, 0.0, 0.0],  # lesion or not
    ]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_late_changes_end_at_4():
    x = torch.tensor([1.0, 1.0, 50.0, -50.0, 1.0]).reshape(1, 5, 1, 1, 1)
    assert relative_channels(x).flatten().tolist() == [1.0, 1.0, 4.0, -4.0, 1.0]


@pytest.mark.parametrize("gain", [0.5, 1.7])
def test_a_gain_of_all_enhancement_changes_no_relative_channel(gain):
    x = patches(2)
    louder = x.clone()
    louder[:, 1:-1] *= gain
    torch.testing.assert_close(relative_channels(louder), relative_channels(x))
    assert torch.equal(relative_channels(louder)[:, 0], x[:, 0])


def test_hardly_any_uptake_is_not_blown_up():
    x = patches(1)
    x[:, 1:-1] *= 1e-3
    assert relative_channels(x)[:, 1].abs().max() < 0.05
    assert relative_channels(torch.zeros(1, 5, 4, 4, 4)).isfinite().all()


def test_networks_see_the_lesion_and_not_how_deep_it_is():
    x = patches(1)
    deeper = x.clone()
    deeper[:, -1] *= 1.5
    assert torch.equal(relative_channels(deeper), relative_channels(x))


def test_each_plane_lies_across_its_own_axis_through_the_middle():
    sides = (24, 30, 36)
    x = patches(1, sides=sides)
    z, y, x_axis = torch.meshgrid(*(torch.arange(float(side)) for side in sides), indexing="ij")
    for axis, (name, place) in enumerate(zip(PLANES, (z, y, x_axis), strict=True)):
        x[:, 0] = place  # pre-contrast passes as it is: it tells where a slice was taken
        image = probed(x)[name].image
        assert image.shape == (1, 3 * 5, *(side for other, side in enumerate(sides) if other != axis))
        taken = [item.unique().tolist() for item in image[0, ::5]]
        assert all(len(item) == 1 for item in taken), name
        first, middle, last = (item[0] for item in taken)
        assert abs(middle - 0.5 * (sides[axis] - 1)) <= 0.5
        assert abs(last - middle - sides[axis] / 12) <= 0.5
        assert abs(middle - first - sides[axis] / 12) <= 0.5


def test_the_three_planes_of_the_default_patch_lie_evenly():
    x = patches(1, sides=(36, 36, 36))
    x[:, 0] = torch.arange(36.0)
    assert probed(x)["sagittal"].image[0, ::5, 0, 0].tolist() == [15.0, 18.0, 21.0]


def test_a_plane_holds_all_channels_of_each_slice():
    x = patches(1, sides=(12, 12, 12))
    found = probed(x)["coronal"].image.reshape(3, 5, 12, 12)
    relative = relative_channels(x)[0]
    for slices, place in zip(found, (5, 6, 7), strict=True):
        assert torch.equal(slices, relative[:, :, place])


def test_the_volume_branch_sees_all_and_every_branch_the_measures():
    x = patches(2)
    probes = probed(x)
    assert torch.equal(probes["volume"].image, relative_channels(x))
    for probe in probes.values():
        assert torch.equal(probe.measures, lesion_measures(x))


@pytest.mark.parametrize(("index", "own"), list(enumerate(BRANCHES)))
def test_a_branchs_loss_reaches_all_of_that_branch_and_nothing_else(index, own):
    model = small()
    for branch in model.branches.values():  # at their start of zero, the linear terms pass no gradient on
        nn.init.normal_(branch.measured.linear.weight)
    model(patches(2))[index].square().sum().backward()
    for name, item in model.named_parameters():
        touched = item.grad is not None and bool(item.grad.any())
        assert touched == name.startswith(f"branches.{own}."), name


@pytest.mark.parametrize("dimensions", [2, 3])
def test_features_are_the_last_maps_means_and_in_planes_their_spreads(dimensions):
    torch.manual_seed(0)
    network = build_resnet(dimensions, 10, 4, 5, size="small").eval()
    maps, seen = [], []
    network.layer4.register_forward_hook(lambda _m, _i, out: maps.append(out.flatten(2)))
    branch = Branch(network, 4, dropout=0.0, measured=False).eval()
    branch.scaled.register_forward_hook(lambda _m, given, _o: seen.append(given[0]))
    logits = branch(torch.randn(3, 5, *[32] * dimensions), torch.zeros(3, measure_count(4)))
    expected = [maps[0].mean(dim=2)] + ([maps[0].std(dim=2, correction=0)] if dimensions == 2 else [])
    torch.testing.assert_close(seen[0], torch.cat(expected, dim=1), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(logits, branch.head(branch.scaled(seen[0])))


def test_maps_without_spread_have_a_finite_gradient():
    branch = Branch(build_resnet(2, 10, 4, 5, size="small"), 4, dropout=0.0, measured=False)
    nn.init.ones_(branch.network.layer4[-1].bn2.bias)  # above the rectifier, which would hide it
    image = torch.zeros(2, 5, 32, 32, requires_grad=True)
    branch(image, torch.zeros(2, measure_count(4))).square().sum().backward()
    assert image.grad.isfinite().all()
    assert all(item.grad is None or item.grad.isfinite().all() for item in branch.parameters())


def test_the_linear_term_is_added_to_the_networks_logits():
    model = small().eval()
    x = patches(2)
    measures = lesion_measures(x)
    with torch.no_grad():
        before = model(x)
        for number, branch in enumerate(model.branches.values()):
            branch.measured.linear.bias.fill_(1.0 + number)
            branch.measured.linear.weight.normal_()
        after = model(x)
        for branch, first, second in zip(model.branches.values(), before, after, strict=True):
            expected = F.linear(
                branch.measured.standardised(measures), branch.measured.linear.weight, branch.measured.linear.bias
            )
            torch.testing.assert_close(second - first, MEASURED_GAIN * expected, rtol=1e-3, atol=1e-3)


def test_without_measures_there_is_no_linear_term():
    model = small(measured=False).eval()
    assert all(branch.measured is None for branch in model.branches.values())
    assert not [name for name in model.state_dict() if "measured" in name]
    x = patches(1)
    # Distances outside the lesion reach nothing but measures.
    farther = x.clone()
    farther[:, -1] = torch.where(x[:, -1] > 0, x[:, -1], 0.5 * x[:, -1])
    assert not torch.equal(lesion_measures(farther), lesion_measures(x))
    with torch.no_grad():
        for here, there in zip(model(x), model(farther), strict=True):
            assert torch.equal(here, there)


def test_dropout_is_random_in_training_only():
    model = small(dropout=0.5, measured=False)
    x = patches(2)
    with torch.no_grad():
        assert not torch.equal(model(x)[3], model(x)[3])
        model.eval()
        assert torch.equal(model(x)[3], model(x)[3])


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_published_planes_have_torchvisions_parameters_but_for_both_ends(depth):
    with torch.device("meta"):
        model = published(plane_depth=depth, volume_depth=depth)
    k, seen, measures = features(depth), 5, measure_count(4)

    def head(width):
        return 2 * width + 4 * width + 4 + 4 * measures + 4  # layer norm, final layer, linear term

    # Three slices of five channels for three colours; means and spreads for means.
    plane = TORCHVISION[depth] - (1000 * k + 1000) + 64 * 7 * 7 * (3 * seen - 3) + head(2 * k)
    assert resnet_by_hand(depth, 3, dims=2) + 1000 * k + 1000 == TORCHVISION[depth]
    for name in PLANES:
        assert count(model.branches[name]) == plane
    assert count(model.branches["volume"]) == resnet_by_hand(depth, seen, dims=3) + head(k)


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_published_networks_take_a_step_at_64_voxels(depth):
    torch.manual_seed(0)
    # One plane's and the volume's width as published; what is deeper is tried without the costly volume.
    options = {"volume_depth": 18} if depth == 18 else {"volume_depth": 10, "volume_width": 4}
    model = published(plane_depth=depth, **options)
    x = patches(2, sides=(64, 64, 64))
    sum(F.cross_entropy(logits, torch.tensor([0, 3])) for logits in model(x)).backward()
    for name, item in model.named_parameters():
        assert item.grad is not None, name
        assert item.grad.isfinite().all(), name
    assert model.branches["axial"].network.conv1.weight.grad.any()
    assert model.branches["volume"].network.conv1.weight.grad.any()


def test_networks_have_the_batch_norm_that_pretrained_weights_need():
    with torch.device("meta"):
        kinds = {type(item) for item in published().modules() if "Norm" in type(item).__name__}
    assert kinds == {nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm}


@pytest.mark.parametrize(
    ("dimensions", "size", "side"), [(2, "small", 64), (3, "small", 32), (2, "published", 16), (3, "published", 16)]
)
def test_stems_keep_or_shrink_the_resolution(dimensions, size, side):
    with torch.device("meta"):
        network = build_resnet(dimensions, 10, 4, 2, size=size)
        seen = []
        network.layer1.register_forward_hook(lambda _m, _i, out: seen.append(out.shape[2:]))
        network(torch.zeros(2, 2, *[64] * dimensions))
    assert tuple(seen[0]) == (side,) * dimensions


def test_pretrained_weights_that_are_not_there_are_an_error_with_a_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for options in ({}, {"plane_depth": 50}):
        with torch.device("meta"), pytest.raises(ConfigError, match='set pretrained = "none"'):
            EnsembleResNet(4, SubtypeConfig(size="published", **options))  # "hub" is the default
    with torch.device("meta"), pytest.raises(ConfigError, match="choose one of 18, 34, 50"):
        published(plane_depth=10, pretrained="hub")


def test_pretrained_weights_start_all_three_planes_and_not_the_volume(tmp_path):
    torch.manual_seed(1)
    # Torchvision's names are MONAI's: see test_pretrained.
    state = dict(build_resnet(2, 18, 8, 3, size="published").state_dict())
    state |= {name: torch.rand(item.shape) for name, item in state.items() if item.is_floating_point()}
    state["fc.weight"], state["fc.bias"] = torch.rand(1000, 64), torch.rand(1000)
    torch.save(state, tmp_path / "resnet18.pth")
    options = {"plane_width": 8, "volume_depth": 18, "volume_width": 8, "pretrained": str(tmp_path / "resnet18.pth")}
    model = published(**options)
    for name in PLANES:
        after = model.branches[name].network.state_dict()
        assert not [key for key in after if key.startswith("fc.")]
        assert {key for key in state if not key.startswith("fc.")} == set(after)
        for key, item in after.items():
            if key == "conv1.weight":
                # Three slices of five channels share what three colours had.
                assert item.shape == (8, 15, 7, 7)
                expected = state[key].mean(dim=1, keepdim=True).expand_as(item) * 3 / 15
                torch.testing.assert_close(item, expected)
            else:
                assert torch.equal(item, state[key]), key
    volume = model.branches["volume"].network.state_dict()
    assert not torch.equal(volume["layer4.1.bn2.weight"], state["layer4.1.bn2.weight"])
    starts = [model.branches[name].network.bn1.weight for name in PLANES]
    with torch.no_grad():
        starts[0].add_(1.0)
    assert torch.equal(starts[1], starts[2])
    assert not torch.equal(starts[0], starts[1])


def test_a_small_ensemble_learns_two_lesions():
    model = small(measured=False)
    x = patches(2, sides=(16, 16, 16))
    x[1, 2:4, 5:11, 5:11, 5:11] += 2.0
    truth = torch.tensor([0, 3])
    optimiser = torch.optim.AdamW(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(10):
        optimiser.zero_grad()
        each = torch.stack([F.cross_entropy(logits, truth) for logits in model(x)])
        each.sum().backward()
        optimiser.step()
        losses.append(each.detach())
    assert (losses[-1] < 0.7 * losses[0]).all()  # every branch by itself


def test_the_patches_are_left_as_they_were():
    x = patches(2)
    before = x.clone()
    small()(x)
    assert torch.equal(x, before)
