"""The vision transformer: tokens, layers that start apart, sides it refuses. Its equations: test_torchvision_names."""

import pytest
import torch

from shared.models.vision_transformer import vit_b16


def build(side=64):
    torch.manual_seed(0)
    return vit_b16(1, 3, size="small", dropout=0.0, side=side)


def test_there_is_a_token_a_patch_and_one_for_the_class():
    assert build(64).features.positions.shape == (1, 17, 48)
    assert build(96).features.positions.shape == (1, 37, 48)


def test_no_two_layers_start_alike():
    one, other = build().features.layers
    assert not torch.equal(one.self_attn.in_proj_weight, other.self_attn.in_proj_weight)
    assert not torch.equal(one.linear1.weight, other.linear1.weight)


def test_where_a_patch_lies_matters():
    model = build().eval()
    x = torch.zeros(1, 1, 64, 64)
    x[:, :, :16, :16] = 1.0
    with torch.no_grad():
        assert not torch.allclose(model(x), model(x.flip(3)), atol=1e-5)
        model.features.positions.zero_()
        torch.testing.assert_close(model(x), model(torch.roll(x, 48, dims=3)), atol=1e-5, rtol=1e-4)


def test_a_gradient_changes_no_answer():
    """Torch has another kernel for inference."""
    model, x = build().eval(), torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        fast = model(x)
    torch.testing.assert_close(fast, model(x).detach(), atol=1e-5, rtol=1e-4)


def test_a_side_that_is_no_multiple_of_a_patch_is_refused():
    with pytest.raises(ValueError, match="100 pixels does not divide into patches of 16"):
        build(100)
