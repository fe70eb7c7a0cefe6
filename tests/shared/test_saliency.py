"""Saliency against MONAI's, against models whose answer is known, and by its invariants; regions by hand counts."""

import numpy as np
import pytest
import torch
from torch import nn

from shared import saliency as saliency_room
from shared.models.ensemble_resnet import EnsembleResNet, SubtypeSection
from shared.saliency import REGIONS, log_odds, region_means, saliencies
from tests.shared.models.drawn_ensembles import with_heads


def saliency(model, patch, label_score, **options):
    return saliencies(model, patch, {"": label_score}, **options)[""]


def ball(size=24, step=1.0, radius=7.0):
    """Signed distance of a ball in the middle of a box, mm."""
    axis = (np.arange(size) - (size - 1) / 2) * step
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    return np.clip(radius - np.sqrt(z**2 + y**2 + x**2), -20, 20).astype(np.float32)


def patch(channels=1, **changes):
    distance = ball(**changes)
    image = np.random.default_rng(1).normal(1.0, 0.5, (channels, *distance.shape))
    return np.concatenate([image, distance[None]]).astype(np.float32)


class Model(nn.Module):
    """A network whose one score is a function of the image `(n, channel, z, y, x)` and the distance."""

    def __init__(self, function, layers=None):
        super().__init__()
        self.function, self.layers = function, layers

    def forward(self, x):
        return [self.function(x[:, :-1], x[:, -1:]).flatten(1).sum(dim=1, keepdim=True)]


def network(seed=0):
    torch.manual_seed(seed)
    layers = nn.Sequential(
        nn.Conv3d(2, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Dropout(0.5), nn.Conv3d(4, 1, 3), nn.Softplus()
    )
    return Model(lambda image, distance: layers(torch.cat([image, distance / 20], dim=1)), layers)


def first(outputs):
    return outputs[0][:, 0]


def test_one_channel_gives_what_monai_gives():
    from monai.visualize import SmoothGrad

    class Score(nn.Module):
        """MONAI's one output; the distance is beside the image, not in it."""

        def __init__(self, model, distance):
            super().__init__()
            self.model, self.distance = model, distance

        def forward(self, image):
            return self.model(torch.cat([image, self.distance], dim=1))[0]

    model = network()
    given = patch(size=12, radius=4.0)
    image, distance = torch.from_numpy(given[None, :1]), torch.from_numpy(given[None, 1:])
    smooth = SmoothGrad(Score(model.eval(), distance), stdev_spread=0.2, n_samples=5, magnitude=False, verbose=False)
    torch.manual_seed(11)
    theirs = smooth(image, index=0).abs()[0, 0].numpy()
    ours = saliency(model, given, first, samples=5, noise=0.2, seed=11)
    np.testing.assert_allclose(ours, theirs / theirs.sum(), rtol=1e-4, atol=1e-9)
    assert ours.std() > 0.1 * ours.mean()


def test_a_linear_score_has_its_weights_for_a_map():
    weights = np.random.default_rng(0).normal(0, 1, (2, 12, 10, 8)).astype(np.float32)
    given = np.random.default_rng(1).normal(0, 1, (3, 12, 10, 8)).astype(np.float32)
    found = saliency(Model(lambda image, _: image * torch.from_numpy(weights)), given, first, samples=3)
    expected = np.abs(weights).sum(axis=0)
    np.testing.assert_allclose(found, expected / expected.sum(), rtol=1e-5)
    assert found.dtype == np.float32
    assert found.sum(dtype=np.float64) == pytest.approx(1.0, abs=1e-6)


def test_the_distance_tells_and_is_not_told_of():
    found = saliency(Model(lambda image, distance: image + 50 * distance), patch(2), first)
    np.testing.assert_allclose(found, 1 / found.size, rtol=1e-5)


def test_a_model_that_looks_at_the_rim_is_seen_to():
    def rim(image, distance):
        return torch.tanh(image) * ((distance > 0) & (distance <= 4))

    given = patch(2)
    found = saliency(Model(rim), given, first)
    means = region_means(found, given[-1])
    inside = (given[-1] > 0) & (given[-1] <= 4)
    assert found[inside].sum() == pytest.approx(1.0, abs=1e-5)
    assert (means["core"], means["surroundings"], means["beyond"]) == (0, 0, 0)
    assert means["rim"] == pytest.approx(inside.size / inside.sum(), rel=1e-5)


def test_noise_follows_each_channels_own_range():
    given = patch(2)
    given[0] *= 1000.0
    given[1] = 0.0
    # The gradient of x squared is 2 x: a channel that is 0 everywhere has no range, so no noise and no gradient.
    flat = saliency(Model(lambda image, _: image[:, 1:] ** 2), given, first, samples=2)
    assert not flat.any()
    given[1] = patch(2)[1]
    plain = saliency(Model(lambda image, _: image[:, 1:] ** 2), given, first, samples=1, noise=0.0)
    np.testing.assert_allclose(plain, np.abs(given[1]) / np.abs(given[1]).sum(), rtol=1e-4)


def test_the_same_seed_gives_the_same_bytes_and_no_generator_is_touched():
    model = network()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one = saliency(model, patch(), first, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert one.tobytes() == saliency(model, patch(), first, seed=3).tobytes()
    assert np.abs(one - saliency(model, patch(), first, seed=4)).max() > 1e-6


def test_how_many_copies_run_at_once_does_not_matter(monkeypatch):
    model = network()
    together = saliency(model, patch(), first)
    monkeypatch.setattr(saliency_room, "_VOXELS_AT_ONCE", 3 * 24**3)  # 3, 3 and 2 copies
    np.testing.assert_allclose(saliency(model, patch(), first), together, rtol=1e-3, atol=1e-9)


def test_the_model_is_left_in_evaluation_without_gradients():
    model = network()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    given = patch()
    kept = given.copy()
    with torch.no_grad():  # a caller's own mode does not take the gradient away
        found = saliency(model, given, first)
    assert found.any()
    assert not any(module.training for module in model.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert (given == kept).all()
    assert found.tobytes() == saliency(model, given, first).tobytes()  # dropout would differ


def test_several_scores_are_those_asked_one_by_one():
    model = network()
    found = saliencies(model, patch(), {"up": first, "square": lambda outputs: outputs[0][:, 0] ** 2}, seed=2)
    assert list(found) == ["up", "square"]
    assert found["up"].tobytes() == saliency(model, patch(), first, seed=2).tobytes()
    assert np.abs(found["up"] - found["square"]).max() > 0


def test_a_score_that_ignores_the_image_has_an_empty_map():
    found = saliency(Model(lambda _, distance: distance), patch(), first)
    assert not found.any()
    assert all(np.isnan(value) for value in region_means(found, ball()).values())
    learnt = nn.Parameter(torch.ones(()))
    assert not saliency(Model(lambda _, distance: distance * learnt), patch(), first).any()


def test_what_cannot_be_explained_is_refused():
    with pytest.raises(ValueError, match="0 noisy copies"):
        saliency(network(), patch(), first, samples=0)
    with pytest.raises(ValueError, match="not finite"):
        saliency(Model(lambda image, _: torch.sqrt(image * 0)), patch(), first)
    with pytest.raises(ValueError, match="not of one patch"):
        region_means(np.ones((2, 2, 2), np.float32), np.ones((2, 2, 3), np.float32))


def test_log_odds_are_those_of_the_probabilities():
    outputs = [torch.randn(3, 4, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    single = torch.stack([item.softmax(dim=1) for item in outputs])
    for output, chance in ((None, single.mean(dim=0)[:, 2]), (0, single[0, :, 2]), (1, single[1, :, 2])):
        torch.testing.assert_close(log_odds(2, output)(outputs), torch.logit(chance))


def test_log_odds_of_a_certain_answer_still_have_a_gradient():
    logits = torch.tensor([[60.0, 0.0, 0.0]], requires_grad=True)
    log_odds(0, 0)([logits]).sum().backward()
    assert logits.grad.tolist()[0] == pytest.approx([1.0, -0.5, -0.5], rel=1e-4)


@pytest.mark.parametrize("measured", [True, False])
def test_a_planes_branch_is_explained_on_its_planes_and_the_volume_everywhere(measured):
    config = SubtypeSection(plane_depth=10, plane_width=4, volume_depth=10, volume_width=4, pretrained="none")
    torch.manual_seed(0)
    model = with_heads(EnsembleResNet(2, config.model_copy(update={"measured": measured})))
    if measured:
        for branch in model.branches.values():  # at their start of zero, the linear terms have no gradient
            nn.init.normal_(branch.measured.linear.weight)
    given = patch(2)
    scores = {str(index): log_odds(1, index) for index in range(4)}
    maps = saliencies(model, given, scores, samples=1)
    outside = given[-1] <= 0  # in the lesion all branches hang on its mean uptake
    for axis in range(3):
        shares = np.where(outside, maps[str(axis)], 0).sum(axis=tuple({0, 1, 2} - {axis}))
        assert np.flatnonzero(shares).tolist() == [10, 12, 14]  # the middle, and a twelfth of the box from it
    assert (maps["3"][outside] > 0).mean() > 0.9


def test_regions_are_counted_by_hand():
    distance = np.array([12.0, 4.5, 4.0, 0.5, 0.0, -9.5, -10.0, -20.0], np.float32).reshape(2, 2, 2)
    shown = np.array([1, 3, 5, 7, 2, 4, 0, 2], np.float32).reshape(2, 2, 2)  # mean 3
    expected = {"core": 2 / 3, "rim": 2.0, "surroundings": 1.0, "beyond": 1 / 3}
    assert region_means(shown, distance) == pytest.approx(expected)
    assert tuple(region_means(shown, distance)) == REGIONS


def test_a_uniform_map_prefers_nothing_and_a_region_without_voxels_has_no_value():
    uniform = np.full((24, 24, 24), 1 / 24**3, np.float32)
    assert region_means(uniform, ball()) == pytest.approx(dict.fromkeys(REGIONS, 1.0))
    small = region_means(uniform, ball(radius=3.0))
    assert np.isnan(small.pop("core"))
    assert small == pytest.approx({"rim": 1, "surroundings": 1, "beyond": 1})


def test_regions_are_in_millimetres_whatever_the_grid():
    coarse, fine = ball(24, 2.0, 14.0), ball(48, 1.0, 14.0)  # the same box of 48 mm
    shells = [np.where((field > 2) & (field <= 6), 1.0, 0.25).astype(np.float32) for field in (coarse, fine)]
    one, two = (region_means(shown / shown.sum(), field) for shown, field in zip(shells, (coarse, fine), strict=True))
    assert one == pytest.approx(two, rel=0.06)
    assert one["rim"] > 2 * one["surroundings"] == pytest.approx(2 * one["beyond"])
