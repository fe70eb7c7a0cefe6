"""Shares of heat by networks whose look is known; what is stored of a breast; which class a breast has."""

import numpy as np
import pytest
import torch
from torch import nn

from shared.cohort.labels import CaseLabels
from shared.config.run_config import parse_config
from shared.modalities.mammography.plan import Extraction, MammographyPlan
from shared.modalities.mammography.settings import MammographySettings
from shared.tasks import TASKS, task_named
from shared.tasks.explanation import REST, class_titles
from shared.tasks.mammogram_heat import AREA, LESION, LEVEL

PLAN = MammographyPlan(mean=0.25, deviation=0.5, extraction=Extraction.of(MammographySettings()))
HER2 = task_named("mammography-her2")
CORNER = (slice(0, 16), slice(0, 16))
HALF = (slice(0, 16), slice(0, 32))


class Breast:
    """A prepared breast of random pixels whose lesion is a corner, or as given."""

    key, labels = "d-p1-e-L", CaseLabels(her2=True)

    def __init__(self, views=("CC", "MLO"), lesion=CORNER, side=32, outlined=None):
        self.views, self.outlined = views, views if outlined is None else outlined
        self._lesion = np.zeros((side, side), bool)
        self._lesion[lesion] = True
        rng = np.random.default_rng(0)
        self._images = {view: rng.random((side, side)).astype(np.float32) for view in views}

    def whole(self):
        return self._images

    def regions(self):
        return {view: self._images[view] for view in self.outlined}

    def outlines(self, extent):
        assert extent in {"roi", "whole"}
        return dict.fromkeys(self.outlined, self._lesion)


def config(task="mammography-her2", **section):
    raw = {"name": "t", "tasks": [task], "data": {"root": "d", "sites": ["a"]},
           task.replace("-", "_"): {"network": "simple-cnn", "size": "small"} | section}  # fmt: skip
    return parse_config(raw | {"mammography": {"roi_pixels": 32, "whole_pixels": [32, 32]}}, "t").for_task(task)


class Seen(nn.Module):
    """Passes on one part of an image: 1 there and 0 elsewhere."""

    def __init__(self, part):
        super().__init__()
        self.part = part

    def forward(self, x):
        seen = torch.zeros_like(x)
        seen[..., self.part[0], self.part[1]] = 1.0
        return seen


class Looking(nn.Module):
    """Both views for HER2 as much as a part of them is bright; `sign` turns it."""

    def __init__(self, part, sign=1.0):
        super().__init__()
        self.network = nn.Module()
        self.network.features = nn.Sequential(Seen(part))
        self.weight = nn.Parameter(torch.tensor([-sign, sign]))

    def forward(self, x):
        maps = self.network.features(x.flatten(0, 1))
        single = (maps.flatten(1).mean(dim=1)[:, None] * self.weight).unflatten(0, (-1, 2))
        return [single[:, 0], single[:, 1]]


def figures(model, breast, name="her2", own=None):
    return {row[:2]: row[2] for row in HER2.explained.figures(model, breast, PLAN, own or config(), name)}


@pytest.mark.parametrize(
    ("part", "lesion", "share", "area"),
    [
        (CORNER, CORNER, 1.0, 0.25),
        (CORNER, (slice(16, 32), slice(16, 32)), 0.0, 0.25),
        (HALF, CORNER, 0.5, 0.25),
        ((slice(0, 32), slice(0, 32)), HALF, 0.5, 0.5),
    ],
)
def test_heat_lies_where_the_network_looks(part, lesion, share, area):
    found = figures(Looking(part), Breast(lesion=lesion))
    for view in ("CC", "MLO"):
        assert found[view, LESION] == pytest.approx(share)
        assert found[view, AREA] == pytest.approx(area)
    assert len(found) == 4


def test_where_no_place_raises_the_score_there_is_no_share():
    assert np.isnan(figures(Looking(CORNER, -1.0), Breast())["CC", LESION])
    assert figures(Looking(CORNER, -1.0), Breast(), REST)["CC", LESION] == pytest.approx(1.0)


def test_only_views_that_there_are_are_explained():
    assert {reader for reader, _ in figures(Looking(CORNER), Breast(("MLO",)))} == {"MLO"}
    whole = figures(Looking(CORNER), Breast(outlined=("CC",)), own=config(extent="whole"))
    assert whole["CC", LESION] == pytest.approx(1.0)
    assert np.isnan([whole["MLO", LESION], whole["MLO", AREA]]).all()
    empty = figures(Looking(CORNER), Breast(lesion=(slice(0), slice(0))))
    assert np.isnan(list(empty.values())).all()


def test_a_vision_transformer_has_no_maps_of_places():
    own = config(network="vit-b16")
    assert HER2.explained.figures(HER2.learner.build_model(own), Breast(), PLAN, own, "her2") == []


@pytest.mark.parametrize("fusion", ["scores", "features"])
def test_heat_is_of_what_answers_for_the_breast(fusion):
    """Behind a mean and a linear layer the gradient is the layer's weight over the number of places."""
    own, breast = config(fusion=fusion), Breast()
    model, start = (HER2.learner.build_model(own).eval() for _ in range(2))
    with torch.no_grad():
        model.network.head.weight.abs_()
        if fusion == "features":
            model.both.weight.abs_()
    stored = HER2.explained.picture(model, start, breast, PLAN, own, "her2")
    images = torch.from_numpy(np.stack([breast.whole()[view] for view in ("CC", "MLO")]))
    with torch.no_grad():
        maps = model.network.features(((images - 0.25) / 0.5)[:, None])
    alone, together = model.network.head.weight[1], getattr(model.both, "weight", None)
    layer = alone.expand(2, -1) if together is None else together[1].unflatten(0, (2, -1))
    heat = torch.relu((layer[:, :, None, None] * maps).sum(dim=1) / maps[0, 0].numel())
    np.testing.assert_allclose(stored["heat"], heat.detach(), rtol=1e-4)
    assert heat.max() > 0
    assert not np.allclose(stored["untrained"], stored["heat"])


def test_what_is_stored_is_small_and_holds_no_objects():
    own = config(extent="whole")
    breast = Breast(side=512, outlined=("MLO",))
    model = HER2.learner.build_model(own)
    stored = HER2.explained.picture(model, model, breast, PLAN, own, "her2")
    assert stored["views"].tolist() == ["CC", "MLO"]
    assert (stored["image"].dtype, stored["image"].shape) == (np.float16, (2, 256, 256))
    cc = breast.whole()["CC"].reshape(256, 2, 256, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(stored["image"][0], cc, atol=1e-3)
    assert not stored["outline"][0].any()
    assert stored["outline"][1].sum() == 8 * 8
    np.testing.assert_array_equal(stored["heat"], stored["untrained"])
    assert stored["heat"].shape == (2, 32, 32)
    levels = {name.removeprefix(LEVEL): array.shape for name, array in stored.items() if name.startswith(LEVEL)}
    assert levels == {"level1": (2, 96, 96), "level2": (2, 96, 96), "level3": (2, 96, 96), "level4": (2, 64, 64),
                      "pool4": (2, 32, 32)}  # fmt: skip
    assert all(array.dtype.kind in "fbU" for array in stored.values())


def test_one_view_alone_is_stored_alone():
    own = config()
    model = HER2.learner.build_model(own)
    stored = HER2.explained.picture(model, model, Breast(("MLO",)), PLAN, own, "her2")
    assert stored["views"].tolist() == ["MLO"]
    assert {array.shape[0] for array in stored.values()} == {1}


@pytest.mark.parametrize(
    ("task", "labels", "name"),
    [
        ("mammography-her2", CaseLabels(her2=True), "her2"),
        ("mammography-her2", CaseLabels(her2=False), REST),
        ("mammography-her2", CaseLabels(), None),
        ("mammography-density", CaseLabels(density="c"), "density_c"),
        ("mammography-subtype", CaseLabels(er=False, pr=False, her2=False), "triple_negative"),
    ],
)
def test_a_breasts_class_is_the_logit_that_answers_it(task, labels, name):
    explained = task_named(task).explained
    assert explained.class_of(labels, config(task)) == name
    assert name is None or name in class_titles(task_named(task).scored)


def test_no_two_tasks_share_a_file():
    stems = [task_named(name).explained.stem for name in TASKS if task_named(name).explained]
    assert len(set(stems)) == len(stems) >= 7
    assert class_titles(HER2.scored) == {"her2": "HER2: yes", REST: "HER2: no"}
