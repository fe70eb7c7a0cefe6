"""Pretrained weights: every tensor where it belongs, the same function, and files that must be refused."""

import pickle

import pytest
import torch
import torch.nn.functional as F
from monai.networks.nets import ResNet
from safetensors.torch import save_file

from shared.errors import ConfigError
from shared.models.plane_networks import NETWORKS, build_network
from shared.models.pretrained import adapt_first_filters, load_pretrained
from tests.shared.models.torchvision_tables import RESNETS, densenet, drawn, resnet


def weights(depth, stem=8, *, counters=True):
    """A state dict in torchvision's manner, no two tensors alike."""
    return drawn(resnet(stem, depth=depth), depth, counters=counters)


def network(depth, channels=3, *, stem=8, outputs=4, **options):
    blocks, kernels, _ = RESNETS[depth]
    return ResNet(
        "basic" if len(kernels) == 2 else "bottleneck",
        list(blocks),
        [stem, 2 * stem, 4 * stem, 8 * stem],
        spatial_dims=2,
        n_input_channels=channels,
        conv1_t_stride=2,
        num_classes=outputs,
        **{"bias_downsample": False, **options},
    )


def features_by_hand(state, depth, x):
    """Torchvision's ResNet in evaluation as a slow reference, from the state dict alone, up to the pooled features."""

    def conv_bn(conv, bn, value, stride=1):
        weight = state[f"{conv}.weight"]
        value = F.conv2d(value, weight, stride=stride, padding=weight.shape[-1] // 2)
        mean, var, gain, bias = (
            state[f"{bn}.{name}"][:, None, None] for name in ("running_mean", "running_var", "weight", "bias")
        )
        return (value - mean) / (var + 1e-5).sqrt() * gain + bias

    blocks, kernels, _ = RESNETS[depth]
    x = F.max_pool2d(conv_bn("conv1", "bn1", x, 2).relu(), 3, stride=2, padding=1)
    for stage, count in enumerate(blocks):
        for block in range(count):
            at, out = f"layer{stage + 1}.{block}", x
            halving = 2 if stage > 0 and block == 0 else 1
            strided = kernels.index(3) + 1  # the first 3x3 convolution
            for index in range(1, len(kernels) + 1):
                out = conv_bn(f"{at}.conv{index}", f"{at}.bn{index}", out, halving if index == strided else 1)
                out = out.relu() if index < len(kernels) else out
            if f"{at}.downsample.0.weight" in state:
                x = conv_bn(f"{at}.downsample.0", f"{at}.downsample.1", x, halving)
            x = (out + x).relu()
    return x.mean(dim=(2, 3))


@pytest.fixture
def saved(tmp_path):
    def save(state, name="weights.pth"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".safetensors":
            save_file(state, file)
        else:
            torch.save(state, file)
        return str(file)

    return save


def unchanged(model, before):
    return all(torch.equal(item, before[name]) for name, item in model.state_dict().items())


def copy_of(model):
    return {name: item.clone() for name, item in model.state_dict().items()}


@pytest.mark.parametrize("channels", [3, 1, 5])
@pytest.mark.parametrize("depth", [18, 50])
def test_every_tensor_of_the_file_lands_where_its_name_says(depth, channels, saved):
    state, model = weights(depth), network(depth, channels)
    fc = model.fc.weight.clone()
    load_pretrained(model, f"resnet{depth}", saved(state))
    after = model.state_dict()
    assert after.keys() == state.keys()
    rest = [name for name in state if not name.startswith("fc.") and name != "conv1.weight"]
    assert len(rest) == len(state) - 3
    for name in rest:
        assert torch.equal(after[name], state[name]), name
    assert torch.equal(model.fc.weight, fc)
    red, green, blue = state["conv1.weight"].unbind(1)
    if channels == 3:
        assert torch.equal(after["conv1.weight"], state["conv1.weight"])
    else:
        for index in range(channels):
            torch.testing.assert_close(after["conv1.weight"][:, index], (red + green + blue) / channels)


@pytest.mark.parametrize(("depth", "channels"), [(18, 3), (34, 3), (50, 3), (18, 1), (18, 2), (50, 5)])
def test_the_loaded_network_computes_what_torchvisions_would(depth, channels, saved):
    state, model = weights(depth), network(depth, channels, feed_forward=False).eval()
    load_pretrained(model, f"resnet{depth}", saved(state))
    colour = own = torch.randn(2, 3, 64, 48)
    if channels != 3:  # then on grey images, whatever the number of channels that repeat them
        colour, own = colour[:, :1].repeat(1, 3, 1, 1), colour[:, :1].repeat(1, channels, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(model(own), features_by_hand(state, depth, colour), rtol=1e-3, atol=1e-3)


def test_adapted_filters_are_equal_in_every_channel_and_keep_their_sum():
    weight = torch.arange(24.0).reshape(2, 3, 2, 2)
    adapted = adapt_first_filters(weight, 4)
    assert adapted.shape == (2, 4, 2, 2)
    # First filter, first pixel: colours 0, 4, 8: sum 12, so 3 in each of four channels.
    assert adapted[0, :, 0, 0].tolist() == [3.0, 3.0, 3.0, 3.0]
    torch.testing.assert_close(adapted.sum(1), weight.sum(1))


def test_a_bias_that_torchvision_has_not_is_silenced(saved):
    state, model = weights(18), network(18, bias_downsample=True)
    assert model.layer2[0].downsample[0].bias.any()
    load_pretrained(model, "resnet18", saved(state))
    assert not model.layer2[0].downsample[0].bias.any()


def test_files_in_every_format_give_the_same_network(tmp_path, saved):
    state = weights(18)
    old = tmp_path / "old.pth"
    torch.save(state, old, _use_new_zipfile_serialization=False)
    models = []
    for file in (saved(state), saved(state, "weights.safetensors"), saved(weights(18, counters=False), "x.pt"), old):
        torch.manual_seed(0)
        models.append(network(18))
        load_pretrained(models[-1], "resnet18", str(file))
    for model in models[1:]:
        for (name, here), there in zip(models[0].named_parameters(), model.parameters(), strict=True):
            assert torch.equal(here, there), name


def test_hub_takes_the_one_file_of_that_depth_from_the_users_cache(tmp_path, saved, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    state = weights(18)
    saved(weights(34), "hub/checkpoints/resnet34-0000.pth")
    saved(state, "hub/checkpoints/resnet18-0000.pth")
    model = network(18)
    load_pretrained(model, "resnet18", "hub")
    assert torch.equal(model.bn1.weight, state["bn1.weight"])
    saved(weights(18), "hub/checkpoints/resnet18-1111.pth")
    with pytest.raises(ConfigError, match=r"several .*resnet18-0000.pth, resnet18-1111.pth.*path of one"):
        load_pretrained(model, "resnet18", "hub")


@pytest.mark.parametrize(("source", "named"), [("hub", "resnet50-*.pth"), ("{}/mine.pth", "mine.pth")])
def test_a_missing_file_is_named_with_where_to_get_it_and_how_to_do_without(source, named, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    model = network(50)
    before = copy_of(model)
    with pytest.raises(ConfigError) as caught:
        load_pretrained(model, "resnet50", source.format(tmp_path))
    message = str(caught.value)
    assert named in message
    assert "resnet50-0676ba61.pth from https://download.pytorch.org/models/" in message
    assert 'pretrained = "none"' in message
    assert str(tmp_path) not in message
    assert unchanged(model, before)


def test_wrong_shapes_are_refused_before_anything_is_written(saved):
    state, model = weights(18), network(18)
    state["layer4.1.conv2.weight"] = torch.zeros(64, 64, 1, 1)  # the last one checked
    before = copy_of(model)
    with pytest.raises(
        ConfigError, match=r"layer4.1.conv2.weight is \(64, 64, 1, 1\) in the file and \(64, 64, 3, 3\)"
    ):
        load_pretrained(model, "resnet18", saved(state))
    assert unchanged(model, before)


@pytest.mark.parametrize(
    ("file_depth", "options"),
    [(34, {}), (50, {}), (18, {"norm": ("group", {"num_groups": 4})}), (18, {"shortcut_type": "A"})],
)
def test_a_network_of_another_build_is_refused(file_depth, options, saved):
    model = network(18, **options)
    before = copy_of(model)
    with pytest.raises(ConfigError, match=r"does not fit.*ResNet-18"):
        load_pretrained(model, "resnet18", saved(weights(file_depth)))
    assert unchanged(model, before)


class Trap:
    """Unpickled, it leaves a trace on the disk."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (open, (self.trace, "w"))


def test_a_pickle_that_holds_code_is_refused_and_does_not_run(tmp_path, saved):
    trace = tmp_path / "trace"
    file = saved({**weights(18), "trap": Trap(str(trace))})
    with pytest.raises(ConfigError, match=r"weights\.pth holds more than tensors"):
        load_pretrained(network(18), "resnet18", file)
    plain = tmp_path / "plain.pth"
    plain.write_bytes(pickle.dumps(Trap(str(trace)), protocol=2))
    with pytest.raises(ConfigError, match=r"plain\.pth holds more"):
        load_pretrained(network(18), "resnet18", str(plain))
    assert not trace.exists()


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
@pytest.mark.parametrize("keep", [0, 100, 20_000])
def test_a_damaged_file_is_refused(name, keep, tmp_path, saved):
    file = tmp_path / name
    saved(weights(18), name)
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ConfigError, match=name):
        load_pretrained(network(18), "resnet18", str(file))


def test_what_is_no_state_dict_of_a_known_depth_and_format_is_refused(tmp_path, saved):
    with pytest.raises(ConfigError, match="no state dict"):
        load_pretrained(network(18), "resnet18", saved({"state_dict": weights(18)}))
    with pytest.raises(ConfigError, match="'resnet20': choose one of resnet18, resnet34"):
        load_pretrained(network(18), "resnet20", "hub")
    (tmp_path / "weights.npz").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"not from weights\.npz"):
        load_pretrained(network(18), "resnet18", str(tmp_path / "weights.npz"))


@pytest.mark.parametrize("old", [False, True])
def test_densenets_weights_fill_all_but_attention_and_the_last_layer(old, saved):
    state, model = drawn(densenet(old=old)), build_network("densenet121-cbam", 5)
    before = copy_of(model)
    load_pretrained(model.features, "densenet121", saved(state))
    after = model.state_dict()
    assert {name for name in after if not torch.equal(after[name], before[name])} == {
        name for name in after if "attention" not in name and not name.startswith("head.") and "tracked" not in name
    } | (set() if old else {name for name in after if "tracked" in name})
    dot = "." if old else ""
    layer = "features.denseblock4.denselayer16"
    assert torch.equal(after[f"{layer}.layers.norm2.bias"], state[f"{layer}.norm{dot}2.bias"])
    assert torch.equal(after[f"{layer}.layers.conv1.weight"], state[f"{layer}.conv{dot}1.weight"])
    assert torch.equal(after["features.transition3.conv.weight"], state["features.transition3.conv.weight"])
    torch.testing.assert_close(after["features.conv0.weight"], state["features.conv0.weight"].sum(1, keepdim=True))


@pytest.mark.parametrize("name", ["densenet121-cbam", "resnet101", "mobilenet-v2-cbam", "vit-b16"])
def test_a_file_that_does_not_fit_leaves_every_network_unchanged(name, saved):
    model = build_network(name, 5, size="small", side=64)
    before = copy_of(model)
    with pytest.raises(ConfigError, match=r"weights\.pth does not fit.*at its published size"):
        load_pretrained(model.features, NETWORKS[name].weights, saved(weights(18)))
    assert unchanged(model, before)


def test_a_tensor_under_its_old_and_its_new_name_is_refused(saved):
    small = (16, 8, (2, 2, 2, 2))
    model = build_network("densenet121", 5, size="small")
    before, twice = copy_of(model), drawn(densenet(*small, old=True)) | drawn(densenet(*small), 1)
    with pytest.raises(ConfigError, match="has a tensor twice"):
        load_pretrained(model.features, "densenet121", saved(twice))
    assert unchanged(model, before)
