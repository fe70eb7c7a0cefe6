"""A fold's per-case table: every arm on every case, the ensemble the mean of the local models that answer."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from server.studies.fold_evaluation import FoldModels, fold_table
from shared.cohort.labels import CaseLabels
from shared.evaluation import Arms
from shared.tasks import task_named
from shared.tasks.task import OWN

RECEPTORS = task_named("receptor-status")
CASES = [SimpleNamespace(key=f"x-p{i}-e-L", labels=CaseLabels(er=bool(i), her2=False)) for i in range(2)]
ALL_LABELS = frozenset({"er", "pr", "her2"})


@pytest.fixture
def table():
    """Models are their own answers, the same for each case; site `b` never saw HER2."""
    evaluator = replace(RECEPTORS.evaluator, predict=lambda model, *_: {OWN: model})
    answers = {
        "federated": {"er": 0.9, "pr": 0.5, "her2": 0.2},
        "local:a": {"er": 0.2, "pr": 0.5, "her2": 0.4},
        "local:b": {"er": 0.6, "pr": 0.5, "her2": 0.9},
    }
    arms = Arms(
        models=answers,
        answers={"local:a": ALL_LABELS, "local:b": ALL_LABELS - {"her2"}},
        ensemble="ensemble",
        members=["local:a", "local:b"],
    )
    thresholds = {"federated": {"er": 0.5, "her2": None}, "local:a": {"er": 0.3}, "local:b": {"er": 0.4}}
    models = FoldModels(arms, {arm: f"hash-{arm}" for arm in (*answers, "ensemble")}, thresholds)
    seen = []
    made = fold_table(models, replace(RECEPTORS, evaluator=evaluator), CASES, None, None, "x", lambda: seen.append(1))
    assert len(seen) == len(CASES)
    return made.set_index(["arm", "case"])


def test_each_arm_answers_each_case_once(table):
    assert len(table) == 4 * 2
    assert table.loc["federated", "model_hash"].tolist() == ["hash-federated"] * 2
    assert table.loc["federated", "score_er"].tolist() == [0.9, 0.9]
    assert table.loc["federated", "truth_er"].tolist() == [0.0, 1.0]
    assert set(table["centre"]) == {"x"}
    assert "truth_pr" not in table


def test_the_ensemble_is_the_mean_of_the_local_models_that_answer(table):
    assert table.loc["ensemble", "score_er"].tolist() == pytest.approx([0.4, 0.4])
    assert np.isnan(table.loc["local:b", "score_her2"]).all()
    assert table.loc["ensemble", "score_her2"].tolist() == pytest.approx([0.4, 0.4])


def test_a_model_has_its_own_frozen_threshold_and_the_ensemble_none(table):
    assert table.loc["federated", "threshold_er"].tolist() == [0.5, 0.5]
    assert table.loc["local:b", "threshold_er"].tolist() == [0.4, 0.4]
    assert np.isnan(table.loc["ensemble", "threshold_er"]).all()
    assert np.isnan(table["threshold_her2"]).all()
