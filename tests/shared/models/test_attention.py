"""CBAM against numpy by hand, pixel by pixel, and its count of parameters."""

import numpy as np
import pytest
import torch

from shared.models.attention import CBAM


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def by_hand(x, squeeze, restore, kernel):
    """Woo 2018, equations 1 to 3, of one image `(channels, y, x)`."""
    channels, height, width = x.shape

    def mlp(vector):
        return restore @ np.maximum(squeeze @ vector, 0)

    mean = np.array([x[c].sum() / (height * width) for c in range(channels)])
    most = np.array([x[c].max() for c in range(channels)])
    x = x * sigmoid(mlp(mean) + mlp(most))[:, None, None]
    planes = np.zeros((2, height + 6, width + 6))  # three zeros on every side
    planes[0, 3:-3, 3:-3] = x.sum(axis=0) / channels
    planes[1, 3:-3, 3:-3] = x.max(axis=0)
    weighed = np.empty_like(x)
    for row in range(height):
        for column in range(width):
            total = (planes[:, row : row + 7, column : column + 7] * kernel).sum()
            weighed[:, row, column] = x[:, row, column] * sigmoid(total)
    return weighed


def test_its_output_is_the_papers_equations_by_hand():
    draws = np.random.default_rng(0)
    squeeze, restore = draws.normal(0, 0.1, (16, 256)), draws.normal(0, 0.3, (256, 16))  # reduction 16
    kernel, x = draws.normal(0, 0.3, (2, 7, 7)), draws.normal(0.2, 1.0, (2, 256, 9, 11))
    module = CBAM(256)
    with torch.no_grad():
        module.channel.mlp[0].weight.copy_(torch.from_numpy(squeeze)[:, :, None, None])
        module.channel.mlp[2].weight.copy_(torch.from_numpy(restore)[:, :, None, None])
        module.spatial.conv.weight.copy_(torch.from_numpy(kernel)[None])
        answer = module(torch.from_numpy(x).float()).numpy()
    expected = np.stack([by_hand(image, squeeze, restore, kernel) for image in x])
    np.testing.assert_allclose(answer, expected, rtol=1e-4, atol=1e-5)


def test_a_case_that_can_be_counted_on_paper():
    """All weights 0: both sigmoids are a half, and a quarter of the input is left."""
    module = CBAM(16)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    x = torch.randn(1, 16, 5, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(module(x), x / 4)
    # The middle of the kernel for means is ln 3: channels that are 1 have mean 1 / 2 behind the first sigmoid.
    with torch.no_grad():
        module.spatial.conv.weight[0, 0, 3, 3] = 2 * np.log(3.0)
    torch.testing.assert_close(module(torch.ones(1, 16, 5, 5)), torch.full((1, 16, 5, 5), 0.5 * 0.75))


@pytest.mark.parametrize(("channels", "count"), [(256, 8_290), (512, 32_866), (1024, 131_170)])
def test_the_count_of_parameters_by_hand(channels, count):
    """Two 1x1 convolutions, channels x channels / 16 each, and two kernels of 7 x 7."""
    assert 2 * channels * channels // 16 + 2 * 49 == count
    assert sum(value.numel() for value in CBAM(channels).parameters()) == count


def test_a_narrow_module_keeps_eight_units():
    assert sum(value.numel() for value in CBAM(24).parameters()) == 2 * 24 * 8 + 98
