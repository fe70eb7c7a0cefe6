"""How a network outlines a case: in one pass, in blended patches, over mirrored copies; and the mean of several."""

import math

import numpy as np
import pytest
import torch

from shared.config.run_config import parse_config
from shared.inference import mean_volume, pick_device, predict_structures, volume_shape
from shared.reproducibility import state_hash

IMAGE = np.random.default_rng(0).random((2, 8, 16, 16)).astype(np.float16)


def settings(**sections):
    raw = {
        "name": "t",
        "data": {"root": "d", "sites": ["a"]},
        "tasks": ["breast-segmentation"],
        "preprocessing": {"post_phases": 1},
        "model": {"channels": [8, 8], "deep_supervision": 1},
    }
    return parse_config(raw | sections, "t")


def test_blending_a_constant_network_is_that_constant():
    view = settings(training={"mode": "patch", "patch_voxels": [8, 8, 8]}, inference={"overlap": 0.5})

    class Constant(torch.nn.Module):
        def forward(self, x):
            return [torch.full_like(x[:, :1], 1.5)]

    probability = predict_structures(Constant(), IMAGE, view)
    assert np.allclose(probability, 1 / (1 + math.exp(-1.5)), atol=1e-5)


def test_flip_averaging_of_a_network_that_reads_the_left_half_is_symmetric():
    class Left(torch.nn.Module):
        def forward(self, x):
            out = torch.zeros_like(x[:, :1])
            out[..., : x.shape[-1] // 2] = 4.0
            return [out]

    view = settings(inference={"flip_averaging": True})
    probability = predict_structures(Left(), IMAGE, view)
    assert np.allclose(probability, (1 / (1 + math.exp(-4)) + 0.5) / 2, atol=1e-6)


class Fixed(torch.nn.Module):
    """Answers with the logits that it was made with, mirrored for a mirrored input."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, x):
        return [torch.stack([self.logits if part[0, 0, 0, 0] == 0 else self.logits.flip(3) for part in x])]


def test_mirrored_copies_are_averaged_the_right_way_round():
    logits = torch.randn(2, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    image = np.zeros((1, 8, 8, 8), np.float32)
    image[..., -1] = 1.0  # its mirrored copy begins with ones
    plain = predict_structures(Fixed(logits), image, settings())
    both = predict_structures(Fixed(logits), image, settings(inference={"flip_averaging": True}))
    np.testing.assert_allclose(plain, torch.sigmoid(logits).numpy(), rtol=1e-6)
    np.testing.assert_allclose(both, plain, rtol=1e-6)


class Marked(torch.nn.Module):
    """Answers by the voxel and its place in the patch, and counts how many patches it is asked about."""

    def __init__(self):
        super().__init__()
        self.asked = 0

    def forward(self, x):
        self.asked += len(x)
        return [3 * x[:, :1] + torch.linspace(-2, 2, x.shape[-1]) + torch.linspace(-1, 1, x.shape[2])[:, None, None]]


@pytest.mark.parametrize(("axes", "copies"), [(["x"], 2), (["z", "x"], 4), (["z", "y", "x"], 8)])
def test_mirrored_copies_are_averaged_in_patches_too_along_the_axes_that_are_named(axes, copies):
    patches = {"mode": "patch", "patch_voxels": [8, 16, 16]}  # one patch: no blending
    plain, both = Marked(), Marked()
    predict_structures(plain, IMAGE, settings(training=patches))
    found = predict_structures(
        both, IMAGE, settings(training=patches, inference={"flip_averaging": True, "flip_axes": axes})
    )
    assert both.asked == copies * plain.asked
    # By hand: logits of each mirrored image, mirrored back.
    volume = np.asarray(IMAGE[0], np.float64)
    along = {"z": np.linspace(-1, 1, 8)[:, None, None], "x": np.linspace(-2, 2, 16)}
    expected = 0.0
    for signs in np.ndindex(*(2 if axis in axes else 1 for axis in "zyx")):
        z, _, x = (-1 if sign else 1 for sign in signs)
        expected = expected + 1 / (1 + np.exp(-(3 * volume + x * along["x"] + z * along["z"])))
    np.testing.assert_allclose(found[0], expected / copies, atol=1e-5)


def test_half_precision_is_for_gpus_alone():
    half = settings(inference={"mixed_precision": "auto"}, compute={"device": "cpu"})
    full = settings(compute={"device": "cpu"})
    np.testing.assert_array_equal(predict_structures(Marked(), IMAGE, half), predict_structures(Marked(), IMAGE, full))


@pytest.mark.parametrize("mode", ["whole_breast", "patch"])
def test_channels_last_answers_alike_and_keeps_the_weights_as_they_are(mode):
    training = {"mode": mode, "patch_voxels": [8, 8, 8]}
    answers, states = [], []
    for last in (False, True):
        view = settings(training=training, compute={"channels_last": last})
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Conv3d(2, 3, 3, padding=1), torch.nn.Conv3d(3, 1, 1))
        answers.append(predict_structures(AsList(model), IMAGE, view))
        states.append(state_hash(model.state_dict()))
        assert model[0].weight.is_contiguous(memory_format=torch.channels_last_3d) or not last
    np.testing.assert_allclose(*answers, atol=1e-6)
    assert states[0] == states[1]


class AsList(torch.nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return [self.inner(x)]


def test_every_structure_of_a_network_is_answered_in_float32():
    class Three(torch.nn.Module):
        def forward(self, x):
            return [torch.cat([torch.full_like(x[:, :1], value) for value in (-1.0, 0.0, 1.0)], dim=1)]

    for view in (settings(), settings(training={"mode": "patch", "patch_voxels": [8, 8, 8]})):
        found = predict_structures(Three(), IMAGE, view)
        assert (found.shape, found.dtype) == ((3, 8, 16, 16), np.float32)
        expected = [1 / (1 + math.exp(-value)) for value in (-1.0, 0.0, 1.0)]
        assert found.mean(axis=(1, 2, 3)) == pytest.approx(expected, abs=1e-5)


def test_the_ensembles_volume_is_the_mean_in_float32():
    parts = [np.full((1, 2, 2, 2), value, np.float32) for value in (0.1, 0.2, 0.6)]
    found = mean_volume(parts)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, 0.3, rtol=1e-6)


def test_a_volume_is_as_large_as_the_network_will_read():
    assert volume_shape(settings(training={"mode": "patch", "patch_voxels": [8, 16, 24]})) == (2, 8, 16, 24)
    channels, *sides = volume_shape(settings(preprocessing={"post_phases": 3, "max_voxels": 250_000}))
    assert channels == 4
    assert sides == [64] * 3  # 63 is the cube root, networks halve three times


def test_the_configured_device_is_taken():
    assert pick_device(settings(compute={"device": "cpu"})) == torch.device("cpu")
    assert pick_device(settings()).type == ("cuda" if torch.cuda.is_available() else "cpu")
