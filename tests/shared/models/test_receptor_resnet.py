"""The three receptor networks: the papers' sizes, that they share nothing, and that they train."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from shared.models.receptor_resnet import ReceptorResNets

LAYERS = {"er": (3, 4, 6, 3), "pr": (3, 4, 6, 3), "her2": (3, 4, 23, 3)}


def patches(count, *, channels=4, sides=(32, 32, 32)):
    """Noise, and a distance that is positive in a box in the middle."""
    x = torch.randn(count, channels + 1, *sides)
    x[:, -1] = -5.0
    middle = tuple(slice(side // 2 - 4, side // 2 + 4) for side in sides)
    x[:, -1, *middle] = 3.0
    return x


def parameters_by_hand(network, channels, outputs, dims):
    """Count weights down the layer table of He 2016, Xie 2017 and Hu 2018 for kernels of side `k` in `dims` axes.

    Convolutions have no bias, a norm has two numbers a channel, a squeeze of ratio 16 has two dense layers with bias.
    """

    def conv(before, after, k, groups=1):
        return before // groups * after * k**dims + 2 * after  # with its norm

    total, before = conv(channels, 64, 7), 64
    for stage, blocks in enumerate(LAYERS[network]):
        planes = 64 * 2**stage
        for _ in range(blocks):
            if network == "pr":
                after = planes
                total += conv(before, after, 3) + conv(after, after, 3)
            else:
                after = 4 * planes
                width, groups = (planes, 1) if network == "er" else (planes * 4 // 64 * 32, 32)
                total += conv(before, width, 1) + conv(width, width, 3, groups) + conv(width, after, 1)
                total += (after * after // 16 + after // 16) + (after // 16 * after + after)
            total += conv(before, after, 1) if before != after else 0
            before = after
    return total + before * outputs + outputs


@pytest.mark.parametrize(
    ("network", "known"),
    # The ImageNet models: torchvision's resnet34, and se_resnet50 and se_resnext101_32x4d of Hu 2018 (in timm's table).
    [("pr", 21_797_672), ("er", 28_088_024), ("her2", 48_955_416)],
)
def test_published_networks_have_the_parameters_of_their_papers_in_three_dimensions(network, known):
    assert parameters_by_hand(network, channels=3, outputs=1000, dims=2) == known
    with torch.device("meta"):
        model = getattr(ReceptorResNets(4, size="published"), network)
    expected = parameters_by_hand(network, channels=5, outputs=1, dims=3)
    assert sum(item.numel() for item in model.parameters()) == expected


def test_published_networks_keep_the_published_batch_norm_and_shrink_a_side_32_fold():
    with torch.device("meta"):
        model = ReceptorResNets(4, size="published")
        sides = {}
        for name, network in model.named_children():
            network.layer4.register_forward_hook(lambda _m, _i, out, name=name: sides.update({name: out.shape[2:]}))
            kinds = {type(item) for item in network.modules() if "Norm" in type(item).__name__}
            assert kinds == {nn.BatchNorm3d}, name
        logits = model(torch.zeros(1, 5, 68, 128, 128))
    assert {name: tuple(side) for name, side in sides.items()} == dict.fromkeys(("er", "pr", "her2"), (3, 4, 4))
    assert [tuple(item.shape) for item in logits] == [(1, 1)] * 3


def test_one_published_patch_too_small_for_batch_norm_is_refused_in_training_and_read_afterwards():
    with torch.device("meta"):
        model, x = ReceptorResNets(1, size="published"), torch.zeros(1, 2, 32, 32, 32)
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            model(x)
        assert len(model.eval()(x)) == 3


def test_a_published_network_takes_a_step_that_lowers_its_loss():
    torch.manual_seed(0)
    network = ReceptorResNets(4, size="published").er
    x = patches(2, sides=(32, 64, 64))  # as many channels as the network sees
    truth = torch.tensor([[0.0], [1.0]])
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-3)
    loss = F.binary_cross_entropy_with_logits(network(x), truth)
    loss.backward()
    assert all(item.grad is not None and item.grad.isfinite().all() for item in network.parameters())
    optimiser.step()
    with torch.no_grad():
        after = F.binary_cross_entropy_with_logits(network(x), truth)
    assert after < loss


def test_small_networks_are_small_of_the_same_families_and_have_nothing_to_aggregate():
    model = ReceptorResNets(4, size="small")
    assert not dict(model.named_buffers())
    for network in model.children():
        assert sum(item.numel() for item in network.parameters()) <= 500_000
    kinds = {name: {type(item).__name__ for item in network.modules()} for name, network in model.named_children()}
    assert {name: "ChannelSELayer" in kind for name, kind in kinds.items()} == {"er": True, "pr": False, "her2": True}
    groups = {name: {m.groups for m in net.modules() if hasattr(m, "groups")} for name, net in model.named_children()}
    assert groups == {"er": {1}, "pr": {1}, "her2": {1, 8}}


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_small_networks_give_one_logit_a_receptor_and_case(channels):
    logits = ReceptorResNets(channels, size="small")(patches(2, channels=channels))
    assert [tuple(item.shape) for item in logits] == [(2, 1)] * 3


@pytest.mark.parametrize(("index", "own"), [(0, "er."), (1, "pr."), (2, "her2.")])
def test_the_loss_of_a_receptor_reaches_every_parameter_of_its_network_and_no_other(index, own):
    torch.manual_seed(0)
    model = ReceptorResNets(4, size="small")
    model(patches(2))[index].square().sum().backward()
    for name, item in model.named_parameters():
        assert name.startswith(("er.", "pr.", "her2."))
        assert (item.grad is not None and bool(item.grad.any())) == name.startswith(own), name


def test_the_same_seed_builds_the_same_networks_and_another_seed_others():
    def logits(seed):
        torch.manual_seed(seed)
        model = ReceptorResNets(4, size="small")
        return torch.cat(model(torch.ones(1, 5, 32, 32, 32)), dim=1)

    assert torch.equal(logits(1), logits(1))
    assert not (logits(1) == logits(2)).any()


def test_the_networks_see_the_mask_and_nothing_else_of_the_distance():
    torch.manual_seed(0)
    model = ReceptorResNets(4, size="small").eval()
    x = patches(1)
    deeper, larger = x.clone(), x.clone()
    deeper[:, -1] *= 2.5  # other distances, the same surface
    larger[:, -1] += 6.0  # every voxel inside
    with torch.no_grad():
        here, same, other = (torch.cat(model(item), dim=1) for item in (x, deeper, larger))
    assert torch.equal(here, same)
    assert (here - other).abs().min() > 1e-5


def test_the_image_is_left_as_it_was():
    x = patches(1)
    before = x.clone()
    ReceptorResNets(4, size="small")(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize("fill", [None, 0.0])
def test_small_networks_train_at_batch_two_also_on_an_empty_image(fill):
    torch.manual_seed(0)
    model = ReceptorResNets(2, size="small")
    x = patches(2, channels=2)
    if fill is not None:
        x[:, :-1] = fill
        x[1, -1] = 1.0  # only the mask tells the two cases apart
    truth = torch.tensor([[0.0], [1.0]])
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(8):
        optimiser.zero_grad()
        loss = sum(F.binary_cross_entropy_with_logits(item, truth) for item in model(x))
        loss.backward()
        assert all(item.grad.isfinite().all() for item in model.parameters())
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
