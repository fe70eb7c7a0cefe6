"""Every network of the table: shapes, a start from the seed alone, gradients, learning; and refusals."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from shared.errors import ConfigError
from shared.models.plane_networks import NETWORKS, build_network
from shared.models.uninitialised import UnsetValues
from shared.reproducibility import state_hash

NAMES = ["densenet121-cbam", "densenet121", "densenet121-cbam-transitions", "resnet101", "mobilenet-v2"]
NAMES += ["mobilenet-v2-cbam", "vit-b16", "simple-cnn"]


def small(name, classes=5, seed=0, **options):
    torch.manual_seed(seed)
    return build_network(name, classes, size="small", side=64, **options)


def test_the_papers_networks_are_in_the_table():
    assert list(NETWORKS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_network_answers_with_a_logit_a_class_from_its_features(name):
    for classes, channels in ((5, 1), (2, 1), (4, 3)):
        model = small(name, classes, channels_in=channels).eval()
        x = torch.rand(3, channels, 64, 64)
        maps = model.features(x)
        assert maps.shape[:2] == (3, model.maps)
        features = model.embed(x)
        torch.testing.assert_close(features, maps.flatten(2).mean(-1))
        torch.testing.assert_close(model(x), model.head(features))
        assert model(x).shape == (3, classes)


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_alone_makes_the_start_and_each_answer(name):
    x = torch.rand((2, 1, 64, 64), generator=torch.Generator().manual_seed(3))
    one, same, other = small(name), small(name), small(name, seed=1)
    assert state_hash(one.state_dict()) == state_hash(same.state_dict()) != state_hash(other.state_dict())
    answers = []
    for model in (one, same):
        torch.manual_seed(5)  # dropout's
        answers.append(model(x))
    assert torch.equal(*answers)
    with UnsetValues():  # as a site builds it
        empty = small(name)
    empty.load_state_dict(one.state_dict())
    assert torch.equal(empty.eval()(x), one.eval()(x))


@pytest.mark.parametrize("name", NAMES)
def test_the_gradient_reaches_every_parameter(name):
    model = small(name, dropout=0.0)
    x = torch.rand((4, 1, 64, 64), generator=torch.Generator().manual_seed(1))
    F.cross_entropy(model(x), torch.tensor([0, 1, 2, 3])).backward()
    for key, value in model.named_parameters():
        assert value.grad is not None, key
        assert torch.isfinite(value.grad).all(), key
        assert value.grad.any(), key


@pytest.mark.parametrize("name", NAMES)
def test_a_small_network_learns_to_tell_two_pictures_in_a_few_steps(name):
    model = small(name, 2)
    draw = torch.Generator().manual_seed(2)
    truth = torch.arange(8) % 2
    rows = torch.sin(torch.arange(64) * 0.8)[None, :].expand(64, 64)
    pictures = torch.where(truth[:, None, None].bool(), rows, rows.T)[:, None]  # stripes that stand or lie
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(20):
        optimiser.zero_grad()
        x = pictures + 0.3 * torch.randn(pictures.shape, generator=draw)
        loss = F.cross_entropy(model(x), truth)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


@pytest.mark.parametrize(
    ("name", "count"),
    [
        # Torchvision's count, less two colours of the first filters, less the thousand classes, plus five.
        ("resnet101", 44_549_160 - 2 * 64 * 49 - 2048 * 1000 - 1000 + 2048 * 5 + 5),
        ("mobilenet-v2", 3_504_872 - 2 * 32 * 9 - 1280 * 1000 - 1000 + 1280 * 5 + 5),
        # Of each block's maps: 1 x 16, 2 x 24, ...; eight units up to 128 maps, then maps / 16.
        ("mobilenet-v2-cbam", 2_229_701 + 16 * (16 + 48 + 96 + 256 + 288) + 3 * 20 * 160 + 40 * 320 + 17 * 98),
        ("vit-b16", 86_567_656 - 2 * 768 * 256 - 768 * 1000 - 1000 + 768 * 5 + 5),
        # 3x3 convolutions and two numbers a map; 256 x 5 + 5.
        ("simple-cnn", 9 * (32 + 32 * 64 + 64 * 128 + 128 * 256) + 2 * (32 + 64 + 128 + 256) + 1285),
    ],
)
def test_the_published_counts_of_parameters(name, count):
    with UnsetValues():
        assert sum(value.numel() for value in build_network(name, 5).parameters()) == count


def test_the_published_size_is_the_default():
    with UnsetValues():
        model = build_network("densenet121", 5)
        assert model.state_dict().keys() == build_network("densenet121", 5, size="published").state_dict().keys()
    assert model.dropout.p == 0.3


def test_what_does_not_exist_is_refused_with_what_does():
    with pytest.raises(ConfigError, match=r"no network 'vgg'; there are densenet121-cbam, .*simple-cnn"):
        build_network("vgg", 2)
    with pytest.raises(ConfigError, match="no ImageNet weights of 'simple-cnn'"):
        build_network("simple-cnn", 2, pretrained="hub")


def test_pretrained_weights_are_loaded_into_the_features(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ConfigError, match=r"holds no densenet121-\*\.pth"):
        build_network("densenet121-cbam", 2, pretrained="hub")
