"""Classifiers of a fold on the same cases: who answers for what, and the mean of the local models."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from server.evaluation import case_tables
from server.evaluation.case_tables import Judged, judge_cases
from shared.cohort.labels import CaseLabels
from shared.config.run_config import parse_config

VIEW = parse_config(
    {"name": "t", "data": {"root": "d", "sites": ["a", "b"], "external": "x"}, "tasks": ["receptor-status"]}, "t"
)
SCORES = {
    "federated": {"er": 0.9, "pr": 0.2},
    "pooled": {"er": 0.8, "pr": 0.3},
    "local:a": {"er": 0.6, "pr": 0.5},
    "local:b": {"er": 0.2, "pr": 0.1},
}


@dataclass
class Opened:
    key: str
    patch: str = "patch"


def case(key, er, pr):
    return SimpleNamespace(key=key, labels=CaseLabels(er=er, pr=pr, her2=None, ki67_percent=None, subtype=None))


@pytest.fixture
def judged(monkeypatch):
    """Arms whose models are their own names; local b has seen ER only."""
    task = SimpleNamespace(
        kind="classification",
        open=lambda cases, _plan, _view: [Opened(item.key) for item in cases],
        truths=lambda labels, _view: {
            name: float(value) for name, value in (("er", labels.er), ("pr", labels.pr)) if value is not None
        },
    )
    monkeypatch.setattr(case_tables, "task_named", lambda _: task)
    monkeypatch.setattr(
        case_tables, "classify", lambda model, _patch, _view: {"": SCORES[model], "branch": {"er": 0.0}}
    )
    answers = {"local:a": frozenset({"er", "pr"}), "local:b": frozenset({"er"})}
    return Judged({arm: arm for arm in SCORES}, dict.fromkeys([*SCORES, "ensemble"], "h"), answers, ensemble=True)


def test_a_local_model_answers_for_labels_it_has_seen_and_the_ensemble_is_their_mean(judged):
    told = []
    cases = [case("x-1-e-L", er=True, pr=False), case("x-2-e-L", er=False, pr=None)]
    table = judge_cases(judged, cases, VIEW, None, "x", lambda: told.append(1))
    found = table.set_index(["case", "arm", "label"])["score"].to_dict()
    assert found["x-1-e-L", "ensemble", "er"] == pytest.approx(0.4)
    assert found["x-1-e-L", "ensemble", "pr"] == 0.5
    assert ("x-1-e-L", "local:b", "pr") not in found
    assert found["x-1-e-L", "local:b", "er"] == 0.2
    # A case without the label has no row in any arm.
    assert not {arm for key, arm, label in found if (key, label) == ("x-2-e-L", "pr")}
    assert {arm for key, arm, _ in found if key == "x-2-e-L"} == {*SCORES, "ensemble"}
    assert len(told) == 2


def test_without_the_ensemble_there_is_none(judged):
    alone = Judged(judged.models, judged.hashes, judged.answers, ensemble=False)
    table = judge_cases(alone, [case("x-1-e-L", er=True, pr=True)], VIEW, None, "x", lambda: None)
    assert set(table["arm"]) == set(SCORES)


def test_a_label_that_no_local_model_has_seen_has_no_ensemble(judged):
    blind = Judged(judged.models, judged.hashes, dict.fromkeys(judged.answers, frozenset({"er"})), ensemble=True)
    table = judge_cases(blind, [case("x-1-e-L", er=True, pr=True)], VIEW, None, "x", lambda: None)
    assert set(table.loc[table["label"] == "pr", "arm"]) == {"federated", "pooled"}
