"""DenseNet121 with CBAM: where attention stands, how many parameters it has, and a step at the published size."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from shared.models.attention import CBAM
from shared.models.densenet_cbam import densenet121
from shared.models.uninitialised import UnsetValues


def build(attention, size="small", classes=5):
    torch.manual_seed(0)
    return densenet121(1, classes, size=size, dropout=0.3, attention=attention)


def count(model):
    return sum(value.numel() for value in model.parameters())


def by_hand(*, first, growth, blocks, channels_in, classes):
    """Huang 2017, table 1: weights of convolutions, two numbers of each batch norm, the last layer."""
    total, maps = channels_in * first * 49 + 2 * first, first
    for block, layers in enumerate(blocks):
        for _ in range(layers):
            total += 2 * maps + maps * 4 * growth  # norm, 1x1
            total += 2 * 4 * growth + 4 * growth * growth * 9  # norm, 3x3
            maps += growth
        if block < len(blocks) - 1:
            total += 2 * maps + maps * (maps // 2)
            maps //= 2
    return total + 2 * maps + maps * classes + classes


def test_the_published_counts_of_parameters():
    published = {"first": 64, "growth": 32, "blocks": (6, 12, 24, 16)}
    assert by_hand(**published, channels_in=3, classes=1000) == 7_978_856  # torchvision's and the paper's 8 M
    plain = by_hand(**published, channels_in=1, classes=5)
    with UnsetValues():
        assert count(build("none", "published")) == plain == 6_952_709
        # Behind 256, 512 and 1024 maps, or within transitions behind 128, 256 and 512.
        assert count(build("blocks", "published")) == plain + 8_290 + 32_866 + 131_170 == 7_125_035
        assert count(build("transitions", "published")) == plain + 2_146 + 8_290 + 32_866 == 6_996_011
        small = by_hand(first=16, growth=8, blocks=(2, 2, 2, 2), channels_in=1, classes=5)
        assert count(build("none")) == small


@pytest.mark.parametrize("size", ["small", "published"])
def test_attention_stands_behind_the_first_three_blocks(size):
    with UnsetValues():
        names = [name for name, _ in build("blocks", size).features.named_children()]
    expected = ["conv0", "norm0", "relu0", "pool0"]
    for number in (1, 2, 3):
        expected += [f"denseblock{number}", f"attention{number}", f"transition{number}"]
    assert names == [*expected, "denseblock4", "norm5", "relu5"]


def test_in_the_transitions_it_stands_between_convolution_and_pooling():
    features = build("transitions").features
    for number in (1, 2, 3):
        parts = dict(getattr(features, f"transition{number}").named_children())
        assert list(parts) == ["norm", "relu", "conv", "attention", "pool"]
    assert sum(isinstance(module, CBAM) for module in features.modules()) == 3


def test_without_attention_it_is_monais_network_and_attention_that_is_open_changes_nothing():
    plain, attended = build("none").eval(), build("blocks").eval()
    attended.load_state_dict(plain.state_dict(), strict=False)
    x = torch.rand(2, 1, 64, 64)
    assert not torch.allclose(attended(x), plain(x))
    for number in (1, 2, 3):
        setattr(attended.features, f"attention{number}", nn.Identity())
    torch.testing.assert_close(attended(x), plain(x))


def test_dropout_acts_before_the_last_layer_in_training_alone():
    model = build("blocks")
    with torch.no_grad():
        model.head.weight.fill_(1.0)
        model.head.bias.zero_()
    seen = []
    model.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.embed = lambda x: torch.ones(len(x), model.maps)
    model(torch.zeros(2000, 1, 1, 1))
    assert abs(float((seen[0] == 0).float().mean()) - 0.3) < 0.02
    model.eval()(torch.zeros(2000, 1, 1, 1))
    assert (seen[1] == 1).all()


def test_the_published_network_makes_a_step_at_224_pixels():
    torch.manual_seed(0)
    model = build("blocks", "published").train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.005)
    x, truth = torch.rand(2, 1, 224, 224), torch.tensor([0, 3])
    before = {name: value.clone() for name, value in model.named_parameters()}
    logits = model(x)
    assert logits.shape == (2, 5)
    F.cross_entropy(logits, truth).backward()
    optimiser.step()
    assert all(torch.isfinite(value).all() for value in model.parameters())
    assert all(not torch.equal(value, before[name]) for name, value in model.named_parameters())
