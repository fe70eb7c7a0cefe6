"""Grad-CAM beside MONAI's and by hand; the levels of a network beside what its modules give."""

import numpy as np
import pytest
import torch
from monai.visualize import GradCAM
from torch import nn

from shared.grad_cam import enlarged, grad_cam, level_maps
from shared.models.breast_views import BreastViews
from shared.models.plane_networks import NETWORKS, build_network
from shared.tasks.mammogram_heat import class_score

SPATIAL = [name for name in NETWORKS if name != "vit-b16"]


def built(name):
    torch.manual_seed(3)
    model = build_network(name, 3, size="small", dropout=0.3).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # else all that a random start gives is far below 1
            module.running_var.fill_(0.3)
    return model


def views():
    return torch.rand(1, 2, 1, 64, 96, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", SPATIAL)
def test_heat_is_monais_for_each_network_with_maps(name):
    network = built(name)
    x = views()
    model = BreastViews(network, 3, "scores")
    known = {}
    for place in range(3):
        known[place] = grad_cam(model, network.features, x, lambda outputs, place=place: class_score(outputs, place))
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not network.features._forward_hooks
    cam = GradCAM(network, "features")
    for place, heat in known.items():
        planes = x[0].clone().requires_grad_()  # without, torch's hook warns
        expected = cam.compute_map(planes, class_idx=place)[:, 0].detach()
        torch.testing.assert_close(heat, expected)
    assert max(float(heat.max()) for heat in known.values()) > 0


class Two(nn.Module):
    """Maps x and -x, whose means and greatest values are answered."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(1, 2, 1, bias=False)
        with torch.no_grad():
            self.features.weight[:, 0, 0, 0] = torch.tensor([1.0, -1.0])

    def forward(self, x):
        maps = self.features(x).flatten(2)
        first, second = maps.mean(dim=2).T
        return [torch.stack([4 * first + 2 * second, -first, maps[:, 0].amax(dim=1)], dim=1)]


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        # d(4 mean(m1) + 2 mean(m2)) / dm = 1 and 1/2 in each of four places: m1 + m2 / 2 = x / 2.
        (0, [[0.5, 0.0], [1.0, 4.0]]),
        # Minus a quarter of x: where x is negative the score rises.
        (1, [[0.0, 0.5], [0.0, 0.0]]),
        # The gradient is 1 in the place of the maximum alone, and its mean a quarter.
        (2, [[0.25, 0.0], [0.5, 2.0]]),
    ],
)
def test_heat_by_hand(place, expected):
    x = torch.tensor([[[[1.0, -2.0], [2.0, 8.0]]]])
    model = Two().train()
    with torch.no_grad():
        heat = grad_cam(model, model.features, x, lambda outputs: outputs[0][0, place])
    np.testing.assert_allclose(heat, [expected])
    assert not heat.requires_grad
    assert not model.training


def test_a_score_that_fails_leaves_no_hook():
    model = Two()
    with pytest.raises(IndexError):
        grad_cam(model, model.features, torch.ones(1, 1, 2, 2), lambda outputs: outputs[1])
    assert not model.features._forward_hooks


def test_levels_are_the_last_modules_at_each_resolution():
    network, x = built("densenet121-cbam"), views()[0]
    seen = {}
    for name, module in network.features.named_children():
        module.register_forward_hook(lambda _m, _a, out, name=name: seen.update({name: out.mean(dim=1)}))
    with torch.no_grad():
        network.features(x)
    expected = dict(seen)
    levels = level_maps(network.features, x)
    assert {name: tuple(maps.shape) for name, maps in levels.items()} == {
        "relu0": (2, 32, 48), "attention1": (2, 16, 24), "attention2": (2, 8, 12), "attention3": (2, 4, 6),
        "relu5": (2, 2, 3),
    }  # fmt: skip
    for name, maps in levels.items():
        torch.testing.assert_close(maps, expected[name])


@pytest.mark.parametrize("name", SPATIAL)
def test_each_network_has_levels_from_fine_to_coarse(name):
    levels = list(level_maps(built(name).features, views()[0]).values())
    assert len(levels) == 5
    widths = [maps.shape[2] for maps in levels]
    assert widths == sorted(set(widths), reverse=True)


def test_places_are_enlarged_linearly():
    np.testing.assert_allclose(enlarged(torch.tensor([[[0.0, 1.0]]]), (2, 4)), [[[0, 0.25, 0.75, 1]] * 2])
