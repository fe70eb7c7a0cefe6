"""Figures by name: what a metric declares decides how it is written and which side of zero is good."""

import pytest

from server.reports.study.metric_lookup import (
    ALL,
    Summary,
    axis_name,
    better_side,
    line_of,
    metric_of,
    seed_rows,
)
from shared.errors import RunError
from shared.tasks import task_named
from tests.server.reports.study.invented_study import SEGMENTATION

OUTLINES = task_named(SEGMENTATION)


def test_smaller_is_better_for_distances_and_errors():
    metrics = {
        name: task_named(task).metric(name)
        for task, name in (
            (SEGMENTATION, "dice"),
            ("receptor-status", "auc_er"),
            (SEGMENTATION, "hd95"),
            ("breast-segmentation", "mae_density"),
            ("receptor-status", "brier_er"),
        )
    }
    sides = {name: better_side(metric) for name, metric in metrics.items()}
    assert sides == {"dice": "right", "auc_er": "right", "hd95": "left", "mae_density": "left", "brier_er": "left"}


def test_every_metric_of_every_task_has_a_title_and_a_meaning_that_can_be_filled_in():
    from shared.config.sections import EvaluationConfig
    from shared.tasks import TASKS

    settings = EvaluationConfig().model_dump()
    for task in map(task_named, TASKS):
        for metric in task.metrics:
            assert axis_name(metric).startswith(metric.title), metric.name
            assert "{" not in metric.meaning.format(**settings), metric.name


def test_a_figure_is_found_by_arm_centre_role_and_metric(study):
    row = Summary(study, OUTLINES).get("pooled", ALL, OUTLINES.metric("hd95"))
    table = study.tables.summary.query(
        f"task == '{SEGMENTATION}' and arm == 'pooled' and centre == 'all' and role == 'external' and metric == 'hd95'"
    )
    assert (row.value, row.ci_low, row.n, row.unit) == (*table[["value", "ci_low", "n"]].iloc[0], "mm")
    assert Summary(study, OUTLINES).arms[:4] == ["federated", "pooled", "ensemble", "local"]
    assert Summary(study, OUTLINES).get("nobody", ALL, OUTLINES.headline) is None
    assert not Summary(study, OUTLINES).has(OUTLINES.metric("froc_1.00"))


def test_a_seeds_rows_are_its_own(study):
    first, second = (seed_rows(study, OUTLINES, "federated", seed)["dice"] for seed in (0, 1))
    assert (first.seed, second.seed) == (0, 1)
    assert second.value - first.value == pytest.approx(0.004)
    assert line_of(study.tables.meta, OUTLINES, quantity="nothing") is None


def test_a_metric_that_the_task_does_not_declare_is_refused_by_name():
    with pytest.raises(RunError, match="'auc_er', no metric of lesion-segmentation: make them again"):
        metric_of(OUTLINES, "auc_er")
