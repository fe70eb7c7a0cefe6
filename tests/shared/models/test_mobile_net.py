"""MobileNetV2: widths by the paper's rule, where it adds its input, where attention stands."""

import pytest
import torch

from shared.models.attention import CBAM
from shared.models.mobile_net import InvertedResidual, mobilenet_v2, width
from shared.models.uninitialised import UnsetValues

WIDTHS = [(32, 1.0, 32), (24, 0.25, 8), (16, 0.25, 8), (1280, 0.25, 320), (96, 0.5, 48), (24, 0.5, 16)]


@pytest.mark.parametrize(("channels", "share", "maps"), WIDTHS)
def test_a_width_is_the_nearest_multiple_of_eight(channels, share, maps):
    assert width(channels, share) == maps


def test_a_block_adds_its_input_only_where_the_shapes_agree():
    for before, after, stride, adds in ((8, 8, 1, True), (8, 16, 1, False), (8, 8, 2, False)):
        block = InvertedResidual(before, after, expansion=6, stride=stride, attention=False).eval()
        with torch.no_grad():
            block.project.norm.weight.zero_()  # the change is nothing
        x = torch.rand(1, before, 6, 6)
        out = block(x)
        assert out.shape == (1, after, 6 // stride, 6 // stride)
        assert torch.equal(out, x if adds else torch.zeros_like(out))


def test_attention_weighs_what_each_of_the_seventeen_blocks_adds():
    with UnsetValues():
        model = mobilenet_v2(1, 2, size="published", dropout=0.3, attention=True)
    blocks = [module for module in model.features if isinstance(module, InvertedResidual)]
    assert len(blocks) == 17
    assert all(isinstance(block.attention, CBAM) for block in blocks)
    block = InvertedResidual(8, 8, expansion=6, stride=1, attention=True).eval()
    with torch.no_grad():
        for parameter in block.attention.parameters():
            parameter.zero_()
    x = torch.rand(1, 8, 6, 6)
    change = block.project(block.depthwise(block.expand(x)))
    torch.testing.assert_close(block(x), x + change / 4)


def test_its_layers_stay_linear_behind_the_projection():
    block = InvertedResidual(8, 8, expansion=6, stride=1, attention=False).eval()
    assert (block.project(torch.randn(4, 48, 6, 6)) < 0).any()
