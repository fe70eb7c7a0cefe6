"""The ensemble's channels, relative to the lesion's own uptake: by hand, and what changes none of them."""

import pytest
import torch

from shared.models.ensemble_resnet import relative_channels
from tests.shared.models.drawn_ensembles import patches


def test_relative_channels_by_hand():
    # Four voxels in a row, the first two lesion: mean uptake there is (1 + 3) / 2 = 2.
    x = torch.tensor([[0.7, 0.8, 0.9, 1.0], [1.0, 3.0, 0.2, 9.0], [0.5, -1.5, 0.3, 0.0], [2.0, 1.0, -0.0, -9.0]])
    distance = torch.tensor([0.5, 4.0, -0.5, -1.0])
    found = relative_channels(torch.cat([x, distance[None]]).reshape(1, 5, 1, 1, 4)).reshape(4, 4)
    expected = [
        [0.5, 1.5, 0.1, 3.0],  # over 2; 4.5 is cut to 3
        [1.0, -1.0, 1.0, 0.0],  # twice the change over the uptake there, at least .3 * 2: 1, 3, .6, 9
        [4.0, 2 / 3, 0.0, -2.0],
        [1.0, 1.0, 0.0, 0.0],  # lesion or not
    ]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_late_changes_end_at_4():
    x = torch.tensor([1.0, 1.0, 50.0, -50.0, 1.0]).reshape(1, 5, 1, 1, 1)
    assert relative_channels(x).flatten().tolist() == [1.0, 4.0, -4.0, 1.0]


@pytest.mark.parametrize("gain", [0.0, 0.5, -9.0])
def test_a_gain_before_contrast_changes_nothing_at_all(gain):
    x = patches(2)
    louder = x.clone()
    louder[:, 0] *= gain
    assert torch.equal(relative_channels(louder), relative_channels(x))


@pytest.mark.parametrize("gain", [0.5, 1.7])
def test_a_gain_of_all_enhancement_changes_no_relative_channel(gain):
    x = patches(2)
    louder = x.clone()
    louder[:, 1:-1] *= gain
    torch.testing.assert_close(relative_channels(louder), relative_channels(x))


def test_hardly_any_uptake_is_not_blown_up():
    x = patches(1)
    x[:, 1:-1] *= 1e-3
    found = relative_channels(x)
    torch.testing.assert_close(found[:, 0], x[:, 1] / 0.2)  # as little as uptake counts
    assert found[:, 1:3].abs().max() < 0.1
    assert relative_channels(torch.zeros(1, 5, 4, 4, 4)).isfinite().all()


def test_networks_see_the_lesion_and_not_how_deep_it_is():
    x = patches(1)
    deeper = x.clone()
    deeper[:, -1] *= 1.5
    assert torch.equal(relative_channels(deeper), relative_channels(x))
    assert torch.equal(relative_channels(x)[:, -1], (x[:, -1] > 0).float())


@pytest.mark.parametrize("channels", [2, 3, 5])
def test_as_many_channels_go_out_as_images_come_in(channels):
    x = patches(1, channels=channels, sides=(6, 7, 8))
    assert relative_channels(x).shape == (1, channels, 6, 7, 8)
