"""Torchvision's names: each becomes one of ours of the same shape, at full size; the networks compute the same."""

import pytest
import torch
import torch.nn.functional as F

from shared.models.plane_networks import NETWORKS, build_network
from shared.models.pretrained import load_pretrained
from shared.models.torchvision_names import PUBLISHED
from shared.models.uninitialised import UnsetValues
from tests.shared.models.torchvision_tables import (
    COUNTS,
    MOBILENET,
    PUBLISHED_TABLES,
    densenet,
    drawn,
    mobilenet,
    resnet,
    vit,
)


def with_weights():
    return [name for name, network in NETWORKS.items() if network.weights]


def test_the_tables_of_these_tests_are_torchvisions():
    assert COUNTS.keys() == PUBLISHED_TABLES.keys() == PUBLISHED.keys()
    for name, table in PUBLISHED_TABLES.items():
        learnt = (shape for key, shape in table().items() if "running" not in key and "tracked" not in key)
        assert sum(torch.Size(shape).numel() for shape in learnt) == COUNTS[name], name


@pytest.mark.parametrize("name", with_weights())
def test_every_name_of_the_file_is_one_of_the_published_networks_and_all_of_it(name):
    weights = PUBLISHED[NETWORKS[name].weights]
    with UnsetValues():
        features = build_network(name, 5, size="published", channels_in=3).features
    own = {key: tuple(value.shape) for key, value in features.state_dict().items() if "attention" not in key}
    table = PUBLISHED_TABLES[NETWORKS[name].weights]()
    renamed = {weights.own_name(key): shape for key, shape in table.items() if not key.startswith(weights.final)}
    assert renamed == own
    assert len(renamed) == len(table) - 2
    assert weights.first in own


@pytest.mark.parametrize(("name", "make"), [("densenet121", densenet), ("vit-b16", vit)])
def test_old_names_become_what_new_ones_do(name, make):
    new, old = make(), make(old=True)
    assert old.keys() - new.keys()
    shared = [key for key in new if not key.endswith("tracked")]
    assert [PUBLISHED[name].own_name(key) for key in old] == [PUBLISHED[name].own_name(key) for key in shared]


def batch_norm(state, name, x):
    mean, var, gain, bias = (
        state[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (var + 1e-5).sqrt() * gain + bias


def densenet_by_hand(state, x, blocks):
    """Huang 2017, in evaluation, from torchvision's names alone, up to the last maps."""
    x = F.conv2d(x, state["features.conv0.weight"], stride=2, padding=3)
    x = F.max_pool2d(batch_norm(state, "features.norm0", x).relu(), 3, stride=2, padding=1)
    for block, layers in enumerate(blocks, 1):
        for layer in range(1, layers + 1):
            at = f"features.denseblock{block}.denselayer{layer}"
            y = F.conv2d(batch_norm(state, f"{at}.norm1", x).relu(), state[f"{at}.conv1.weight"])
            y = F.conv2d(batch_norm(state, f"{at}.norm2", y).relu(), state[f"{at}.conv2.weight"], padding=1)
            x = torch.cat([x, y], dim=1)
        if block < len(blocks):
            at = f"features.transition{block}"
            x = F.conv2d(batch_norm(state, f"{at}.norm", x).relu(), state[f"{at}.conv.weight"])
            x = F.avg_pool2d(x, 2)
    return batch_norm(state, "features.norm5", x).relu()


def mobilenet_by_hand(state, x):
    """Sandler 2018 likewise."""

    def conv_norm(at, norm, y, stride=1):
        weight = state[f"{at}.weight"]
        groups = y.shape[1] if weight.shape[1] == 1 else 1
        y = F.conv2d(y, weight, stride=stride, padding=weight.shape[-1] // 2, groups=groups)
        return batch_norm(state, norm, y)

    x, place = F.relu6(conv_norm("features.0.0", "features.0.1", x, 2)), 0
    for expansion, _, blocks, stride in MOBILENET:
        for block in range(blocks):
            place += 1
            at, y = f"features.{place}.conv", x
            depth = 0 if expansion == 1 else 1
            if depth:
                y = F.relu6(conv_norm(f"{at}.0.0", f"{at}.0.1", y))
            y = F.relu6(conv_norm(f"{at}.{depth}.0", f"{at}.{depth}.1", y, stride if block == 0 else 1))
            y = conv_norm(f"{at}.{depth + 1}", f"{at}.{depth + 2}", y)
            x = x + y if block > 0 else y
    return F.relu6(conv_norm("features.18.0", "features.18.1", x))


def vit_by_hand(state, x, layers, heads):
    """Dosovitskiy 2021, equations 1 to 4: the class token behind the last norm."""
    dim = state["class_token"].shape[-1]

    def layer_norm(name, y):
        y = (y - y.mean(-1, keepdim=True)) / (y.var(-1, unbiased=False, keepdim=True) + 1e-6).sqrt()
        return y * state[f"{name}.weight"] + state[f"{name}.bias"]

    def linear(name, y, mark="."):
        return y @ state[f"{name}{mark}weight"].T + state[f"{name}{mark}bias"]

    patches = F.conv2d(x, state["conv_proj.weight"], state["conv_proj.bias"], stride=16).flatten(2).transpose(1, 2)
    x = torch.cat([state["class_token"].expand(len(x), 1, dim), patches], 1) + state["encoder.pos_embedding"]
    for layer in range(layers):
        at = f"encoder.layers.encoder_layer_{layer}"
        query, key, value = (
            part.unflatten(-1, (heads, dim // heads)).transpose(1, 2)
            for part in linear(f"{at}.self_attention.in_proj", layer_norm(f"{at}.ln_1", x), "_").chunk(3, dim=-1)
        )
        share = (query @ key.transpose(2, 3) / (dim // heads) ** 0.5).softmax(dim=-1)
        x = x + linear(f"{at}.self_attention.out_proj", (share @ value).transpose(1, 2).flatten(2))
        y = linear(f"{at}.mlp.0", layer_norm(f"{at}.ln_2", x))
        y = 0.5 * y * (1 + torch.erf(y / 2**0.5))
        x = x + linear(f"{at}.mlp.3", y)
    return layer_norm("encoder.ln", x)[:, 0, :, None]


CASES = {
    "densenet121": ("small", densenet(16, 8, (2, 2, 2, 2)), lambda state, x: densenet_by_hand(state, x, (2, 2, 2, 2))),
    "mobilenet-v2": ("published", mobilenet(), mobilenet_by_hand),
    "vit-b16": ("small", vit(48, 2, 64), lambda state, x: vit_by_hand(state, x, 2, 4)),
}
GREY = CASES | {"resnet101": ("small", resnet(8, (1, 1, 1, 1)), None)}


def loaded(name, size, state, channels, tmp_path):
    file = tmp_path / "weights.pth"
    torch.save(state, file)
    model = build_network(name, 5, size=size, channels_in=channels, side=64)
    load_pretrained(model.features, NETWORKS[name].weights, str(file))
    return model.features.eval()


@pytest.mark.parametrize("name", CASES)
def test_the_loaded_network_computes_what_torchvisions_would(name, tmp_path):
    size, table, by_hand = CASES[name]
    state = drawn(table)
    features = loaded(name, size, state, 3, tmp_path)
    x = torch.rand((2, 3, 64, 64), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = by_hand(state, x)
        assert expected.std() > 0.01
        torch.testing.assert_close(features(x), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", GREY)
def test_averaged_filters_answer_a_grey_image_as_the_three_channel_ones_do(name, tmp_path):
    size, table, _ = GREY[name]
    state = drawn(table)
    grey = torch.rand((2, 1, 64, 64), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        three = loaded(name, size, state, 3, tmp_path)(grey.expand(2, 3, 64, 64))
        one = loaded(name, size, state, 1, tmp_path)(grey)
    assert three.std() > 0.01
    torch.testing.assert_close(one, three, rtol=1e-3, atol=1e-3)
