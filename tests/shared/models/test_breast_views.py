"""Two views through one network: the same weights for both, and their answers alone and together."""

import pytest
import torch

from shared.models.breast_views import BreastViews, both_views
from shared.models.plane_networks import build_network


def built(fusion, classes=3):
    torch.manual_seed(0)
    network = build_network("simple-cnn", classes, size="small", dropout=0.0)
    return BreastViews(network, classes, fusion).eval()


def test_each_view_is_answered_as_the_network_alone_would():
    model = built("scores")
    views = torch.rand(4, 2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    cc, mlo = model(views)
    torch.testing.assert_close(cc, model.network(views[:, 0]))
    torch.testing.assert_close(mlo, model.network(views[:, 1]))


def test_fusion_by_features_is_a_layer_over_both_views_features():
    model = built("features")
    views = torch.rand(4, 2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    outputs = model(views)
    assert [item.shape for item in outputs] == [(4, 3)] * 3
    both = torch.cat([model.network.embed(views[:, 0]), model.network.embed(views[:, 1])], dim=1)
    torch.testing.assert_close(outputs[2], model.both(both))
    torch.testing.assert_close(both_views(outputs), outputs[2].softmax(dim=1))


def test_fusion_by_scores_is_the_mean_probability():
    cc, mlo = torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, -1.0]])
    # exp(2) / (1 + exp(2)) and 1 / (1 + exp(2)): their mean is one half.
    assert both_views([cc, mlo])[0, 1].item() == pytest.approx(0.5)
    assert built("scores").both is None
