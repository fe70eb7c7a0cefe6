"""The subtype ensemble's networks: published sizes, stems, pretrained starts, what is random, and that they learn."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from shared.errors import ConfigError
from shared.models.ensemble_resnet import PLANES, EnsembleResNet, SubtypeSection, build_resnet
from shared.models.lesion_measures import measure_count
from tests.shared.models.drawn_ensembles import patches, published, small, with_heads

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
TORCHVISION = {18: 11_689_512, 34: 21_797_672, 50: 25_557_032}


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


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_published_planes_have_torchvisions_parameters_but_for_both_ends(depth):
    with torch.device("meta"):
        model = published(plane_depth=depth, volume_depth=depth)
    k, seen = features(depth), 4

    def head(width, dimensions):
        measures = measure_count(4, dimensions)
        return 2 * width + 4 * width + 4 + 4 * measures + 4  # layer norm, final layer, linear term

    # Three slices of four channels for three colours; means and spreads for means.
    plane = TORCHVISION[depth] - (1000 * k + 1000) + 64 * 7 * 7 * (3 * seen - 3) + head(2 * k, 2)
    assert resnet_by_hand(depth, 3, dims=2) + 1000 * k + 1000 == TORCHVISION[depth]
    for name in PLANES:
        assert count(model.branches[name]) == plane
    assert count(model.branches["volume"]) == resnet_by_hand(depth, seen, dims=3) + head(k, 3)


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_published_networks_take_a_step_at_64_voxels(depth):
    torch.manual_seed(0)
    # One plane's and the volume's width as published; what is deeper is tried without the costly volume.
    options = {"volume_depth": 18} if depth == 18 else {"volume_depth": 10, "volume_width": 4}
    model = with_heads(published(plane_depth=depth, **options))
    x = patches(2, sides=(64, 64, 64))
    sum(F.cross_entropy(logits, torch.tensor([0, 3])) for logits in model(x)).backward()
    for name, item in model.named_parameters():
        assert item.grad is not None, name
        assert item.grad.isfinite().all(), name
    for name, branch in model.branches.items():
        assert branch.network.conv1.weight.grad.any(), name


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
            EnsembleResNet(4, SubtypeSection(size="published", **options))  # "hub" is the default
    with torch.device("meta"), pytest.raises(ConfigError, match="choose one of resnet18, resnet34, resnet50"):
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
                # Three slices of four channels share what three colours had.
                assert item.shape == (8, 12, 7, 7)
                expected = state[key].mean(dim=1, keepdim=True).expand_as(item) * 3 / 12
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


def test_dropout_is_random_in_training_only():
    model = with_heads(small(dropout=0.5, measured=False))
    x = patches(2)
    with torch.no_grad():
        assert not torch.equal(model(x)[3], model(x)[3])
        model.eval()
        assert torch.equal(model(x)[3], model(x)[3])


@pytest.mark.parametrize("measured", [True, False])
def test_a_fresh_ensemble_gives_every_case_the_same_answer_and_after_a_few_steps_does_not(measured):
    model = small(measured=measured)
    x = torch.cat([patches(2), 2 * patches(2, seed=1)])
    for mode in (True, False):
        with torch.no_grad():
            assert (torch.stack(model.train(mode)(x)).softmax(dim=2) == 0.25).all()
    model.train()
    stems = [branch.network.conv1.weight for branch in model.branches.values()]
    start = [item.detach().clone() for item in stems]
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    moved = []
    for _ in range(3):
        optimiser.zero_grad()
        sum(F.cross_entropy(logits, torch.arange(4)) for logits in model(x)).backward()
        optimiser.step()
        moved.append([not torch.equal(now, before) for now, before in zip(stems, start, strict=True)])
    # Convolutions wait for their heads, one step and no longer.
    assert moved == [[False] * 4, [True] * 4, [True] * 4]
    with torch.no_grad():
        chances = torch.stack(model.eval()(x)).softmax(dim=2)
    for one in range(1, 4):
        assert ((chances[:, one] - chances[:, 0]).abs().amax(dim=1) > 1e-3).all()  # every branch by itself


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
