"""Cases in which nothing was outlined are kept and tell nothing."""

import pytest

from server.evaluation.external_classification import say_nothing
from server.run_folder.predictions import score_table


def test_a_case_without_an_outline_gets_the_mean_scores_of_the_others():
    scored = {"a": {"er": 0.2, "pr": 1.0}, "b": {}, "c": {"er": 0.6, "pr": 0.0}}
    found = say_nothing(scored)
    assert found["b"] == pytest.approx({"er": 0.4, "pr": 0.5})
    assert (found["a"], found["c"]) == (scored["a"], scored["c"])
    assert say_nothing({"a": {}}) == {}


def test_the_table_has_a_row_for_each_label_that_a_case_has():
    scored = [
        ("centre-d-p2-e-L", {"er": 1.0}, {"er": 0.7, "pr": 0.1}),
        ("centre-d-p1-e-R", {"er": 0.0, "pr": 1.0}, {"er": 0.4, "pr": 0.9}),
    ]
    table = score_table(scored, centre="centre-d", arm="federated", model_hash="h")
    assert table[["patient", "label", "truth", "score"]].to_numpy().tolist() == [
        ["centre-d-p1", "er", 0.0, 0.4],
        ["centre-d-p1", "pr", 1.0, 0.9],
        ["centre-d-p2", "er", 1.0, 0.7],
    ]
