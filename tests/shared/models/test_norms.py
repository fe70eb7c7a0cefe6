"""Normalisation: nothing to aggregate but by choice, and group norm by its formula."""

import pytest
import torch
from torch import nn

from shared.models.norms import norm3d, to_group_norm


@pytest.mark.parametrize("kind", ["group", "instance"])
def test_normalisation_without_running_statistics_has_nothing_to_aggregate(kind):
    layer = norm3d(kind, 12)
    assert not dict(layer.named_buffers())
    out = layer(torch.rand(2, 12, 4, 4, 4) * 7 + 3)
    assert out.mean().abs() < 1e-4
    assert abs(out.std() - 1) < 0.05


def test_batch_norm_is_there_by_choice():
    assert isinstance(norm3d("batch", 12), nn.BatchNorm3d)


@pytest.mark.parametrize(("channels", "groups"), [(16, 8), (12, 4), (6, 2), (5, 1)])
def test_group_norm_takes_the_most_groups_of_up_to_eight_that_divide_the_channels(channels, groups):
    assert norm3d("group", channels).num_groups == groups


def test_group_norm_by_its_formula():
    x = torch.randn(2, 4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    parts = x.reshape(2, 4, -1)  # four channels in four groups
    mean, variance = parts.mean(dim=2, keepdim=True), parts.var(dim=2, keepdim=True, unbiased=False)
    expected = ((parts - mean) / (variance + 1e-5).sqrt()).reshape(x.shape)
    torch.testing.assert_close(norm3d("group", 4)(x), expected)


def test_every_batch_norm_is_replaced_however_deep_it_lies():
    network = nn.Sequential(
        nn.Conv3d(1, 8, 1), nn.BatchNorm3d(8), nn.Sequential(nn.BatchNorm3d(6), nn.Sequential(nn.BatchNorm2d(4)))
    )
    to_group_norm(network)
    kinds = [type(module) for module in network.modules()]
    assert nn.BatchNorm3d not in kinds
    assert nn.BatchNorm2d not in kinds
    assert [module.num_channels for module in network.modules() if isinstance(module, nn.GroupNorm)] == [8, 6, 4]
    assert isinstance(network[0], nn.Conv3d)
