"""The evaluator of classifiers on real patches: mirrored copies, outlines, rows, the mean of several models."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from shared.cohort.labels import CaseLabels, Label
from shared.config.run_config import parse_config
from shared.metrics.paired_numbers import NumberPair
from shared.modalities.mri.lesion_patch import cut_patch
from shared.modalities.mri.plan import Extraction, MriPlan
from shared.modalities.mri.region import BreastRegion
from shared.tasks.classification import log_losses, read_patch, score_evaluator, score_metrics, seen_by, used_by
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


def truths(labels, config):
    del config
    return {} if labels.malignant is None else {"malignant": float(labels.malignant)}


EVALUATOR = score_evaluator(truths, as_scores)


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

    own = EVALUATOR.predict(Seeing(), case, PLAN, config, None)
    other = EVALUATOR.predict(Seeing(), case, PLAN, config, ball(3, (9, 12, 14)))
    patch = config._sections["lesion-malignancy"].patch
    for got, mask in zip(seen, (ball(5), ball(3, (9, 12, 14))), strict=True):
        np.testing.assert_allclose(got, cut_patch(case.region(), mask, PLAN, patch), atol=1e-2)
    assert own != other
    # Nothing is outlined: there is nothing to read.
    assert EVALUATOR.predict(Left(), case, PLAN, config, np.zeros(SHAPE, bool)) is None


def test_a_row_has_the_truths_that_are_known_and_a_label_that_is_not_answered_is_missing(tmp_path):
    case = Case(tmp_path, CaseLabels(malignant=False))
    measured = EVALUATOR.measure({OWN: {"malignant": 0.7}, "branch": {}}, case, view(), full=True)
    assert measured.rows[OWN] == {"truth_malignant": 0.0, "score_malignant": 0.7}
    assert measured.rows["branch"] == {"truth_malignant": 0.0, "score_malignant": None}
    assert measured.masks is None
    blank = EVALUATOR.measure({OWN: {"malignant": 0.7}}, Case(tmp_path, CaseLabels()), view(), full=True)
    assert blank.rows[OWN] == {}


def test_the_mean_of_models_is_over_those_that_answer_the_label():
    some = [{OWN: {"er": 0.6, "pr": 0.5}, "b": {"er": 1.0}}, {OWN: {"er": 0.2}}]
    assert EVALUATOR.average(some) == {OWN: {"er": pytest.approx(0.4), "pr": 0.5}}


def test_a_model_does_not_answer_for_a_label_it_never_saw():
    found = EVALUATOR.restrict({OWN: {"er": 0.6, "pr": 0.5}, "b": {"pr": 1.0}}, frozenset({"er"}))
    assert found == {OWN: {"er": 0.6}, "b": {}}


def test_labels_seen_and_cases_used_are_those_with_a_truth():
    config = view()
    assert seen_by(truths)(CaseLabels(malignant=True), config) == {"malignant"}
    assert used_by(truths)(CaseLabels(malignant=False), config)
    assert not used_by(truths)(CaseLabels(), config)


def test_metrics_in_order_and_the_losses_among_them():
    pair = NumberPair("{}_ki67", "Ki-67", "%", ("score_ki67_percent", "truth_ki67_percent"))
    metrics = score_metrics((Label("er", "ER"), Label("pr", "PR")), (pair,))
    assert metrics[0].name == "auc_er"
    assert score_metrics((Label("er", "ER"), Label("pr", "PR")), macro=True)[0].name == "auc_macro"
    chosen = {metric.name: scale for metric, scale in log_losses(metrics, {"mae_ki67": 10.0})}
    assert chosen == {"log_loss_er": 1.0, "log_loss_pr": 1.0, "mae_ki67": 10.0}
    assert [metric.name for metric, _ in log_losses(metrics)] == ["log_loss_er", "log_loss_pr"]


def test_scores_that_are_no_numbers_stay_so_and_are_not_taken_for_missing(tmp_path):
    found = read_patch(Left(), np.full((4, 8, 8, 8), math.nan, np.float32), view(), as_scores, lambda image, _: image)
    row = EVALUATOR.measure(found, Case(tmp_path, CaseLabels(malignant=True)), view(), full=True).rows[OWN]
    assert math.isnan(row["score_malignant"])
    assert torch.isfinite(torch.tensor(row["truth_malignant"]))
