"""Figures of few patients, told coarsely: what attacks on exact sums get of them, and that they stay figures."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.metrics.coarse import coarse, grouped_scores
from shared.metrics.metric import check_figures
from shared.metrics.sums import Moments, Sums
from shared.tasks import task_named

LEAST = 5
KI67, RECEPTORS = task_named("receptor-ki67-multitask"), task_named("receptor-status")


def told(task, rows):
    """What a hospital sends of rows, each of a patient of its own."""
    named = [(f"p{index}", row) for index, row in enumerate(rows)]
    sums = Sums.zero(task.kinds)
    for row in grouped_scores(named, task.metrics, LEAST):
        sums = sums + task.sums(row)
    return coarse(sums, task.metrics, LEAST)


def exact(task, rows):
    sums = Sums.zero(task.kinds)
    for row in rows:
        sums = sums + task.sums(row)
    return sums


def scored(scores, positive):
    return [{"truth_er": float(truth), "score_er": score} for score, truth in zip(scores, positive, strict=True)]


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 1)), min_size=1, max_size=40), st.integers(1, 7))
def test_each_score_is_that_of_enough_patients_and_their_order_stays(cases, least):
    rows = [(f"p{patient}", {"truth_er": 1.0, "score_er": score}) for patient, score in cases]
    changed = [row["score_er"] for row in grouped_scores(rows, RECEPTORS.metrics, least)]
    behind = {value: {name for (name, _), now in zip(rows, changed, strict=True) if now == value} for value in changed}
    assert all(len(names) >= least for names in behind.values()) or len(behind) == 1
    by_score = [now for _, now in sorted(zip([score for _, score in cases], changed, strict=True))]
    assert by_score == sorted(by_score)
    if least == 1:
        assert all(abs(now - score) <= 0.025 + 1e-12 for (_, score), now in zip(cases, changed, strict=True))


@pytest.mark.parametrize("apart", [0, 1, 4])
@pytest.mark.parametrize(("low", "high"), [(0.01, 0.99), (0.99, 0.01), (0.4, 0.6)])
def test_fewer_than_the_least_who_are_scored_apart_do_not_show(apart, low, high):
    labels = [index % 2 for index in range(18)]
    assert told(RECEPTORS, scored([high] * apart + [low] * (18 - apart), labels)) == told(
        RECEPTORS, scored([low] * 18, labels)
    )


def test_one_question_whose_scores_name_each_patient_does_not_give_their_labels():
    scores = [1 / (1 + np.exp(-(2.0 ** (index / 2 - 6)))) for index in range(20)]  # no two subsets have one log-loss
    draws = np.random.default_rng(0)
    several = [draws.permutation([0, 1] * 10) for _ in range(400)]
    assert len({exact(RECEPTORS, scored(scores, labels)).moments("log_loss_er").total for labels in several}) == 400
    assert len({str(told(RECEPTORS, scored(scores, labels))) for labels in several}) <= 146  # positives of four groups


def ki67_by_constant_answers(values, ask):
    """The attack: the slope of a sum of absolute errors changes by two at each patient's value."""
    totals = [ask([{"score_ki67_percent": float(c), "truth_ki67_percent": float(y)} for y in values])
              for c in range(101)]  # fmt: skip
    changes = np.diff(totals, 2) / 2
    return [c for c, change in enumerate(changes, start=1) for _ in range(max(0, round(change)))]


def test_constant_answers_give_exact_sums_the_ki67_of_all_and_coarse_ones_not():
    values = sorted(int(value) for value in np.random.default_rng(1).integers(1, 100, 18))
    of = "mae_ki67"
    assert ki67_by_constant_answers(values, lambda rows: exact(KI67, rows).moments(of).total) == values
    answers = []
    ki67_by_constant_answers(values, lambda rows: answers.append(told(KI67, rows).moments(of).total) or answers[-1])
    assert all(total % 100 == 0 for total in answers)
    assert len(set(answers)) < len(values)  # fewer than there are patients
    off = [told(KI67, [{"score_ki67_percent": 40.0, "truth_ki67_percent": float(y)} for y in values]).moments(of).mean
           - np.abs(40.0 - np.array(values)).mean()]  # fmt: skip
    assert np.abs(off).max() <= 0.5 * 100 / 18


def rows_of(task, draws, number):
    """Rows of a task's table with any figures that cases can have, some of them missing."""
    rows = []
    for _ in range(number):
        row = {}
        for metric in task.metrics:
            for column in metric.columns if metric.sent != "nothing" else ():
                if metric.sent == "counts":
                    row[column] = float(draws.integers(0, 3))
                elif metric.labels:
                    row[column] = float(draws.integers(0, 2)) if column.startswith("truth_") else draws.random()
                else:
                    most = {"1": 1.0, "%": 100.0}.get(metric.unit, 90.0)
                    row[column] = float(draws.choice([0.0, draws.random() * most, most]))
        if draws.random() < 0.2:
            row |= dict.fromkeys(["hd95_mm", "assd_mm"])
        rows.append(row)
    return rows


@pytest.mark.parametrize(
    "name", ["lesion-segmentation", "breast-segmentation", "receptor-ki67-multitask", "subtype-ensemble"]
)
def test_what_is_told_is_such_as_cases_can_have_and_near_the_truth(name):
    task, draws = task_named(name), np.random.default_rng(2)
    for number in range(5, 65):
        rows = rows_of(task, draws, number)
        sums, of = told(task, rows), exact(task, rows)
        check_figures(task.metrics, Sums.from_flat(sums.to_flat(), task.kinds))
        assert sums.n == number
        for metric in task.metrics:
            if metric.sent == "moments" and metric.unit in {"1", "%"}:
                near, true = sums.moments(metric.name), of.moments(metric.name)
                span = 1.0 if metric.unit == "1" else 100.0
                assert abs(near.n - true.n) <= 2
                assert abs(near.mean - true.mean) <= 0.51 * span / near.n
                assert abs(near.deviation - true.deviation) <= 0.51 * span / near.n + 1e-6


def test_how_many_cases_lack_a_figure_is_told_by_fives():
    task = task_named("lesion-segmentation")

    def missing(count):
        rows = rows_of(task, np.random.default_rng(3), 30)
        for index, row in enumerate(rows):
            row["hd95_mm"], row["failed"] = (None, 1.0) if index < count else (9.0, 0.0)
        sums = told(task, rows)
        return sums.moments("hd95").n, sums.count("failed")

    assert [missing(count) for count in (0, 1, 2, 3, 7, 8)] == [(30, 0)] * 3 + [(25, 5)] * 2 + [(20, 10)]


def test_of_nobody_nothing_is_told():
    assert coarse(Sums.zero(KI67.kinds), KI67.metrics, LEAST) == Sums.zero(KI67.kinds)
    assert coarse(Sums.zero(KI67.kinds) + Sums({"n": 9}), KI67.metrics, LEAST).moments("mae_ki67") == Moments()
