"""A classifier of one plane by hand: the mean of its feature maps, dropout in training alone, a linear layer."""

import torch
from torch import nn

from shared.models.plane_network import PlaneNetwork


class Twice(nn.Module):
    """Two feature maps: the plane, and twice the plane."""

    def forward(self, x):
        return torch.cat([x, 2 * x], dim=1)


def made(dropout=0.0):
    network = PlaneNetwork(Twice(), 2, 1, dropout=dropout)
    with torch.no_grad():
        network.head.weight.copy_(torch.tensor([[1.0, 10.0]]))
        network.head.bias.copy_(torch.tensor([0.5]))
    return network


def test_features_are_means_over_the_plane_and_the_logit_is_linear_in_them():
    plane = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])
    network = made()
    torch.testing.assert_close(network.embed(plane), torch.tensor([[3.0, 6.0]]))
    # 3 + 10 x 6 + 0.5
    torch.testing.assert_close(network(plane), torch.tensor([[63.5]]))


def test_features_are_dropped_in_training_alone():
    planes = torch.ones(200, 1, 2, 2)
    network = made(dropout=0.5)
    torch.manual_seed(0)
    # Each feature is 0 or doubled: 0, 2 and 4 x 10 above the bias.
    assert {round(float(value), 3) for value in network.train()(planes).detach()} == {0.5, 2.5, 40.5, 42.5}
    assert {round(float(value), 3) for value in network.eval()(planes).detach()} == {21.5}
