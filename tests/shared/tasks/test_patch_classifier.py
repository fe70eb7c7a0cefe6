"""Classifiers of real patches: mirrored copies, and the outline that a patch is cut from."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from shared.cohort.labels import CaseLabels
from shared.config.run_config import key_of, parse_config
from shared.modalities.mri.lesion_patch import cut_patch
from shared.modalities.mri.plan import Extraction, MriPlan
from shared.modalities.mri.region import BreastRegion
from shared.tasks import task_named
from shared.tasks.patch_classifier import patch_predictor, read_patch
from shared.tasks.task import OWN
from shared.types import Grid

SHAPE = (24, 24, 24)
PLAN = MriPlan(
    mode="whole_breast",
    spacing_mm=(2.0, 2.0, 2.0),
    crop_voxels=(16, 16, 16),
    least_voxels=(16, 16, 16),
    low=(-9.0,) * 3,
    high=(9.0,) * 3,
    scale=(0.7, 0.3, 0.3),
    extraction=Extraction(post_phases=2, n4=False, n4_shrink=4, n4_iterations=(1,)),
)


def view(copies=1):
    raw = {
        "name": "t",
        "tasks": ["lesion-malignancy"],
        "data": {"root": "d", "sites": ["a"]},
        "preprocessing": {"post_phases": 2},
        "lesion_malignancy": {"patch": {"voxels": [8, 8, 8]}, "mirrored_copies": copies},
    }
    return parse_config(raw, "t").for_task("lesion-malignancy")


def ball(radius, centre=(12, 12, 12)):
    z, y, x = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    return (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 <= radius**2


@dataclass
class Case:
    folder: object
    labels: CaseLabels
    key: str = "d-p1-e-R"

    @property
    def region_folder(self):
        return self.folder / "regions" / "entry"

    def region(self):
        phases = np.random.default_rng(1).random((3, *SHAPE)).astype(np.float16)
        return BreastRegion(phases, np.ones(SHAPE, bool), ball(5), Grid(SHAPE, (2.0,) * 3), (0, 0, 0), "right")


class Left(nn.Module):
    """Answers with the mean of the left half: a mirrored copy has another answer."""

    def forward(self, x):
        return [x[:, 0, :, :, : x.shape[-1] // 2].mean(dim=(1, 2, 3))[:, None]]


def as_scores(outputs):
    return [{OWN: {"malignant": float(value)}, "branch": {"malignant": 0.0}} for value in outputs[0][:, 0]]


PREDICT = patch_predictor(as_scores)


@pytest.mark.parametrize("copies", [1, 2, 8])
def test_scores_are_the_mean_over_the_mirrored_copies(copies):
    patch = np.random.default_rng(0).random((4, 8, 8, 8)).astype(np.float32)
    found = read_patch(Left(), patch, view(copies), as_scores, lambda image, _: image)
    left, right = patch[0, :, :, :4].mean(), patch[0, :, :, 4:].mean()
    expected = left if copies == 1 else (left + right) / 2
    assert found[OWN]["malignant"] == pytest.approx(float(expected), rel=1e-5)
    assert set(found) == {OWN, "branch"}


def test_a_network_may_read_something_else_than_the_patch():
    patch = np.random.default_rng(0).random((4, 8, 8, 8)).astype(np.float32)
    assert read_patch(Left(), patch, view(), as_scores, lambda image, _: image * 0 + 0.25)[OWN]["malignant"] == 0.25


def test_the_patch_is_cut_from_the_reference_or_from_the_outline_that_is_given(tmp_path):
    case, config = Case(tmp_path, CaseLabels(malignant=True)), view()
    seen = []

    class Seeing(Left):
        def forward(self, x):
            seen.append(x[0].numpy())
            return super().forward(x)

    own = PREDICT(Seeing(), case, PLAN, config, None)
    other = PREDICT(Seeing(), case, PLAN, config, ball(3, (9, 12, 14)))
    patch = config._sections["lesion-malignancy"].patch
    for got, mask in zip(seen, (ball(5), ball(3, (9, 12, 14))), strict=True):
        np.testing.assert_allclose(got, cut_patch(case.region(), mask, PLAN, patch), atol=1e-2)
    assert own != other
    # Nothing is outlined, or not in the breast's box: there is nothing to read.
    assert PREDICT(Left(), case, PLAN, config, np.zeros(SHAPE, bool)) is None


def test_a_speck_beside_the_lesion_changes_nothing_of_a_predicted_outlines_patch(tmp_path):
    case, config, seen = Case(tmp_path, CaseLabels(malignant=True)), view(), []

    class Seeing(Left):
        def forward(self, x):
            seen.append(x[0].numpy())
            return super().forward(x)

    lesion, speck = ball(5, (8, 8, 8)), ball(1, (21, 21, 21))
    alone, beside = (PREDICT(Seeing(), case, PLAN, config, mask) for mask in (lesion, lesion | speck))
    np.testing.assert_array_equal(seen[0], seen[1])
    assert alone == beside
    # The speck alone is what there is to read.
    assert PREDICT(Seeing(), case, PLAN, config, speck) != alone


def test_where_the_box_misses_the_reference_there_is_no_answer(tmp_path):
    class Missing(Case):
        def region(self):
            whole = super().region()
            return replace(whole, phases=whole.phases[:, :6], breast=whole.breast[:6])

    case, config = Missing(tmp_path, CaseLabels(malignant=True)), view()
    assert case.region().misses_lesion
    assert PREDICT(Left(), case, PLAN, config, None) is None
    assert PREDICT(Left(), case, PLAN, config, ball(5)) is None
    assert PREDICT(Left(), case, PLAN, config, ball(2, (2, 12, 12))) is not None


@pytest.mark.parametrize(
    "name", ["subtype-ensemble", "receptor-status", "receptor-ki67-multitask", "lesion-malignancy"]
)
def test_a_network_trains_without_measures_as_configured_or_as_its_own_rival(name):
    def weights(task, **section):
        sections = {key_of(item): {"pretrained": "none"} for item in (name, f"{name}-network") if "subtype" in item}
        own = {**sections.get(key_of(task), {}), **section}
        raw = {"name": "t", "tasks": [task], "data": {"root": "d", "sites": ["a"]}, key_of(task): own}
        config = parse_config(raw, "t").for_task(task)
        return task_named(task).learner.build_model(config).state_dict()

    whole, alone, rival = weights(name), weights(name, measured=False), weights(f"{name}-network")
    assert any("measured" in key for key in whole)
    assert alone.keys() == rival.keys() == {key for key in whole if "measured" not in key}
    assert all(torch.equal(alone[key], rival[key]) for key in alone)
    task = task_named(f"{name}-network")
    assert (task.rival_of, task.short, task.explained) == (name, "network alone", None)
