"""The ResU-Net: shapes, counts, the chain of its parts, and that it learns."""

import pytest
import torch

from shared.config.sections import ModelConfig
from shared.models.res_unet import ResidualBlock, ResUNet


def test_logits_come_at_full_resolution_then_halved_a_level():
    net = ResUNet(4, ModelConfig(channels=(8, 8, 16, 16), stem_stride=2, deep_supervision=3))
    shapes = [tuple(item.shape) for item in net(torch.zeros(2, 4, 16, 32, 48))]
    assert shapes == [(2, 1, 16, 32, 48), (2, 1, 8, 16, 24), (2, 1, 4, 8, 12), (2, 1, 2, 4, 6)]


def test_without_a_strided_stem_the_first_head_is_the_output():
    net = ResUNet(2, ModelConfig(channels=(8, 8, 16), stem_stride=1, deep_supervision=2))
    shapes = [tuple(item.shape[2:]) for item in net(torch.zeros(2, 2, 8, 8, 12))]
    assert shapes == [(8, 8, 12), (4, 4, 6)]


def test_the_parameters_are_those_counted_by_hand():
    # Block in->c: in*c*27 + c*c*27 + two norms of 2c, and a shortcut in*c where stride or width change.
    def block(before, width, shortcut):
        return 27 * width * (before + width) + 4 * width + (before * width if shortcut else 0)

    encoder = block(3, 8, shortcut=True) + block(8, 16, shortcut=True)
    decoder = (16 * 8 * 8 + 8) + block(16, 8, shortcut=True)
    head = 8 + 1
    net = ResUNet(3, ModelConfig(channels=(8, 16), stem_stride=1, deep_supervision=1))
    assert sum(item.numel() for item in net.parameters()) == encoder + decoder + head


def test_a_side_that_cannot_be_halved_is_refused_with_the_remedy():
    net = ResUNet(1, ModelConfig(channels=(8, 8), stem_stride=2))
    with pytest.raises(ValueError, match="multiples of 4: pad the volume"):
        net(torch.zeros(1, 1, 8, 8, 10))


def test_a_residual_block_with_zeroed_convolutions_is_its_shortcut():
    block = ResidualBlock(8, 8, norm="group")
    torch.nn.init.zeros_(block.norm2.weight)
    x = torch.rand(2, 8, 4, 4, 4)  # positive: the final rectifier is the identity on it
    assert torch.allclose(block(x), x)


def test_each_sample_of_a_batch_is_read_on_its_own_with_group_norm():
    torch.manual_seed(0)
    net = ResUNet(1, ModelConfig(channels=(8, 16), stem_stride=2)).eval()
    x = torch.rand(2, 1, 8, 8, 8)
    assert torch.allclose(net(x)[0][1:], net(x[1:])[0], atol=1e-5)


def test_the_logits_start_near_the_prior_of_a_small_lesion():
    torch.manual_seed(0)
    net = ResUNet(4, ModelConfig(channels=(16, 24, 32, 48)))
    assert torch.sigmoid(net(torch.randn(2, 4, 16, 16, 16))[1]).mean() < 0.2
