"""The one loop: arms, the mean of several, what an arm does not answer, damaged cases, sums equal to the table."""

import logging
import math
from dataclasses import replace
from functools import reduce
from operator import add

import numpy as np
import pandas as pd
import pytest
import torch

from shared.cohort.labels import CaseLabels
from shared.errors import RunError
from shared.evaluation import Arms, evaluate, evaluate_site, table_row
from shared.metrics.metric import check_figures
from shared.metrics.sums import Sums
from shared.tasks import task_named
from shared.tasks.task import OWN, Evaluator, Measured
from tests.shared.invented_task import CONFIG, TASK, Scorer, case, chance


def rows(arms, cases, **options):
    return {
        (item.key, arm): measured.rows[OWN]
        for item, by_arm in evaluate(TASK, arms, cases, None, CONFIG, **options)
        for arm, measured in by_arm.items()
    }


def test_every_arm_answers_every_case_and_the_ensemble_is_the_mean_of_its_members():
    arms = Arms({"one": Scorer(1.0, 2.0), "two": Scorer(-1.0, 0.5), "other": Scorer(9.0, 9.0)},
                ensemble="mean", members=("one", "two"))  # fmt: skip
    told = []
    found = rows(arms, [case(1, 1, 0), case(2, 0, None, (0.5, 1.0))], on_case=lambda: told.append(1))
    assert set(found) == {(f"x-p{n}-e-L", arm) for n in (1, 2) for arm in ("one", "two", "other", "mean")}
    assert found["x-p1-e-L", "one"] == {
        "truth_er": 1.0, "score_er": pytest.approx(chance(1.0)),
        "truth_pr": 0.0, "score_pr": pytest.approx(chance(2.0)),
    }  # fmt: skip
    mean = found["x-p2-e-L", "mean"]
    assert mean["score_er"] == pytest.approx((chance(0.5) + chance(-0.5)) / 2)
    assert "truth_pr" not in mean  # the case has no such label
    assert len(told) == 2


def test_an_arm_answers_the_labels_it_has_seen_and_the_ensemble_is_the_mean_of_those_who_do():
    arms = Arms({"one": Scorer(1.0, 2.0), "two": Scorer(-1.0, 0.5)}, {"two": frozenset({"er"})}, "mean", ("one", "two"))
    found = rows(arms, [case(1, 1, 0)])
    assert found["x-p1-e-L", "two"]["score_pr"] is None
    assert found["x-p1-e-L", "mean"]["score_pr"] == pytest.approx(chance(2.0))
    assert found["x-p1-e-L", "mean"]["score_er"] == pytest.approx((chance(1.0) + chance(-1.0)) / 2)
    blind = Arms(arms.models, dict.fromkeys(arms.models, frozenset({"er"})), "mean", arms.members)
    assert rows(blind, [case(1, 1, 0)])["x-p1-e-L", "mean"]["score_pr"] is None


def test_the_ensemble_of_outlines_is_the_mean_of_probabilities_before_the_threshold():
    task = task_named("lesion-segmentation")
    volumes = {"one": np.full((1, 2, 2, 2), 0.9, np.float32), "two": np.full((1, 2, 2, 2), 0.2, np.float32)}
    seen = {}

    def measure(prediction, item, config, *, full):
        seen.setdefault(full, []).append(float(prediction.mean()))
        return Measured({OWN: {"dice": float(prediction.mean() >= 0.5)}})

    own = Evaluator(lambda model, *_: volumes[model], task.evaluator.average, measure)
    arms = Arms({"one": "one", "two": "two"}, ensemble="mean", members=("one", "two"))
    ((_, found),) = evaluate(replace(task, evaluator=own), arms, [case(1, None, None)], None, CONFIG, full=False)
    assert found["mean"].rows[OWN] == {"dice": 1.0}  # voting on masks would be a draw
    assert seen == {False: pytest.approx([0.9, 0.2, 0.55])}


def test_parts_of_a_network_answer_on_their_own():
    ((_, found),) = evaluate(TASK, Arms({OWN: Scorer(1.0, 1.0)}), [case(1, 1, None)], None, CONFIG)
    assert found[OWN].rows["branch"] == {"truth_er": 1.0, "score_er": 0.25}


def test_an_answer_that_is_no_number_is_an_error_and_no_missing_figure():
    with pytest.raises(RunError, match="score_er is not a number: its training diverged"):
        rows(Arms({"one": Scorer(math.nan, 1.0)}), [case(1, 1, 1)])
    with pytest.raises(RunError, match="score_er is not a number"):
        evaluate_site(TASK, Scorer(math.nan, 1.0), [case(1, 1, 1)], None, CONFIG)


def test_a_damaged_case_costs_itself_and_is_named_in_the_sites_own_log(caplog):
    cases = [case(1, 1, 0), case(2, 1, None, None), case(3, 0, None)]
    with caplog.at_level(logging.WARNING):
        sums, skipped = evaluate_site(TASK, Scorer(1.0, 1.0), cases, None, CONFIG)
    assert (sums.n, skipped) == (2, 1)
    assert sums == evaluate_site(TASK, Scorer(1.0, 1.0), [cases[0], cases[2]], None, CONFIG)[0]
    assert [item.getMessage() for item in caplog.records] == [
        "case x-p2-e-L is skipped: its prepared files cannot be read (StudyError)"
    ]


def test_a_case_of_which_there_is_no_prediction_is_no_part_of_the_sums():
    def predict(model, item, plan, config, outline):
        return None if item.key == "x-p2-e-L" else TASK.evaluator.predict(model, item, plan, config, outline)

    task = replace(TASK, evaluator=replace(TASK.evaluator, predict=predict))
    cases = [case(1, 1, 0), case(2, 1, 0), case(3, 0, None)]
    sums, skipped = evaluate_site(task, Scorer(1.0, 1.0), cases, None, CONFIG)
    assert (sums, skipped) == evaluate_site(TASK, Scorer(1.0, 1.0), [cases[0], cases[2]], None, CONFIG)
    check_figures(task.metrics, sums)
    few, _ = evaluate_site(task, Scorer(1.0, 1.0), cases, None, CONFIG, least=3)
    assert few == Sums.zero(task.kinds)
    arms = Arms({"a": Scorer(1.0, 1.0), "b": Scorer(2.0, 1.0)}, ensemble="mean", members=("a", "b"))
    assert [set(found) for _, found in evaluate(task, arms, cases, None, CONFIG)] == [
        {"a", "b", "mean"}, set(), {"a", "b", "mean"},
    ]  # fmt: skip


def test_a_site_without_a_case_has_the_same_names_with_nothing_in_them():
    sums, skipped = evaluate_site(TASK, Scorer(1.0, 1.0), [], None, CONFIG)
    assert (sums.n, skipped) == (0, 0)
    assert sums.to_flat().keys() == Sums.zero(TASK.kinds).to_flat().keys()
    assert Sums.from_flat(sums.to_flat(), TASK.kinds) == sums


def test_a_sites_sums_have_the_figures_of_its_table():
    rng = np.random.default_rng(0)
    # Logits in the middle of a bin each, so that the histogram loses nothing.
    places = rng.permutation(20)
    chances = (places + 0.5) / 20
    cases = [
        case(number, bool(rng.random() < value), None if number % 3 else bool(rng.random() < 0.5),
             (math.log(value / (1 - value)), 0.3))
        for number, value in enumerate(chances)
    ]  # fmt: skip
    model = Scorer(1.0, 1.0)
    sites = [evaluate_site(TASK, model, part, None, CONFIG)[0] for part in (cases[:7], cases[7:])]
    together = reduce(add, sites)
    table = pd.DataFrame(
        table_row(item, "x", "a", "h", found["a"].rows[OWN])
        for item, found in evaluate(TASK, Arms({"a": model}), cases, None, CONFIG)
    )
    for name in ("auc_er", "log_loss_er", "log_loss_pr"):
        metric = TASK.metric(name)
        values = metric.values(table)
        values = values[np.isfinite(values).all(axis=1)]
        expected = float(metric.statistic(values, np.ones((1, len(values))))[0])
        assert metric.of(together) == pytest.approx(expected), name
    assert together.n == 20


def test_parts_of_fewer_patients_than_the_least_are_of_nobody():
    cases = [case(number, number < 5, number < 6, (0.0, 0.0)) for number in range(10)]

    def told(own, least):
        sums = evaluate_site(TASK, Scorer(1.0, 1.0), own, None, CONFIG, least=least)[0]
        return {name: sums.histogram(name).n for name in ("er", "pr")} | {
            name: sums.moments(name).n for name in ("log_loss_er", "log_loss_pr")
        }

    assert told(cases, 1) == told(cases, 4) == dict.fromkeys(("er", "pr", "log_loss_er", "log_loss_pr"), 10)
    # Four without PR: nothing of PR is told, also not its loss, which ten have.
    assert told(cases, 5) == {"er": 10, "log_loss_er": 10, "pr": 0, "log_loss_pr": 0}
    # Both breasts of one patient are one patient.
    both = [replace(item, key=f"a-{max(int(number > 0), number)}-e-{number}") for number, item in enumerate(cases)]
    both[0] = replace(both[0], key=both[1].key[:-1] + "R")
    assert told(both, 5) == dict.fromkeys(("er", "pr", "log_loss_er", "log_loss_pr"), 0)


@pytest.mark.parametrize("answer", [math.nan, math.inf, -math.inf, 3e38])
def test_of_patients_an_answer_that_is_no_number_is_a_number_of_one_among_many(answer):
    class Network(Scorer):
        def forward(self, x):
            return torch.where(x > 1, torch.tensor(answer), super().forward(x))

    def told(features, least):
        cases = [case(number, number % 2, None, (item, item)) for number, item in enumerate(features)]
        return evaluate_site(TASK, Network(1.0, 1.0), cases, None, CONFIG, least=least)[0]

    many = [-1.0] * 12
    assert told([2.0, *many], 5) == told([-1.0, *many], 5)
    if math.isnan(answer):
        with pytest.raises(RunError, match="training diverged"):  # of phantoms it is told
            told([2.0, *many], 1)


def test_a_row_says_whose_case_it_is():
    item = case(7, 1, None)
    assert table_row(item, "x", "federated", "abc", {"score_er": 0.5}) == {
        "case": "x-p7-e-L", "patient": "x-p7", "centre": "x", "arm": "federated", "model_hash": "abc", "score_er": 0.5,
    }  # fmt: skip
    assert CaseLabels().value("er") is None
