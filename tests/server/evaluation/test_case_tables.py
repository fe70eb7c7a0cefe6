"""Tables of the external centre: every model, the chosen one's parts and thresholds, its reading end to end."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from server.evaluation.case_tables import TrainedModels, evaluate_models, load_model, threshold_columns
from server.run_folder.predictions import WHO, check_table
from shared.preprocessing.cache import pack_mask
from tests.shared.invented_task import CONFIG, TASK, Scorer, case, chance

CASES = [case(1, 1, 0), case(2, 0, None, (-1.0, 1.0)), case(3, 1, 1, (2.0, 1.0))]
SHAPE = (2, 3, 4)


def states(**weights):
    return {name: Scorer(*values).state_dict() for name, values in weights.items()}


TRAINED = TrainedModels(
    states(best=(1.0, 2.0), last=(3.0, 3.0)), "best", {"best": {"er": 0.6, "pr": None}, "last": {"er": 0.4}}
)


def outline(share):
    mask = np.zeros(SHAPE, bool)
    mask.ravel()[: round(share * mask.size)] = True
    return pack_mask(mask), SHAPE


def table(outlines=None, trained=TRAINED, cases=CASES, told=None):
    found = evaluate_models(TASK, trained, cases, None, CONFIG, outlines or {}, lambda: (told or []).append(1))
    return found.set_index(["arm", "model_hash", "case"]).sort_index()


def test_every_model_answers_and_the_chosen_ones_parts_beside_it():
    told = []
    found = evaluate_models(TASK, TRAINED, CASES, None, CONFIG, {}, lambda: told.append(1))
    check_table(found)
    assert set(WHO) <= set(found.columns)
    assert {(arm, model) for arm, model in zip(found["arm"], found["model_hash"], strict=True)} == {
        ("federated", "best"), ("federated", "last"), ("federated:branch", "best"),
    }  # fmt: skip
    assert len(told) == 6
    assert set(found["centre"]) == {"x"}
    row = found.set_index(["arm", "model_hash", "case"]).loc["federated", "best", "x-p3-e-L"]
    assert row[["score_er", "score_pr"]].tolist() == pytest.approx([chance(2.0), chance(2.0)])
    branch = found[found["arm"] == "federated:branch"]
    assert branch["score_er"].tolist() == [0.25] * 3


def test_a_models_own_thresholds_stand_beside_its_answers():
    found = table()
    assert set(found.loc["federated", "best"]["threshold_er"]) == {0.6}
    assert set(found.loc["federated", "last"]["threshold_er"]) == {0.4}
    assert found["threshold_pr"].isna().all()
    assert found.loc["federated:branch"]["threshold_er"].isna().all()
    assert threshold_columns({"er": 0.5, "pr": None}) == {"threshold_er": 0.5, "threshold_pr": None}


def test_a_label_that_a_case_lacks_is_empty():
    found = table().loc["federated", "best"]
    assert found["truth_pr"].isna().tolist() == [False, True, False]
    assert found["score_pr"].isna().tolist() == [False, True, False]


def test_the_chosen_model_is_also_read_in_the_outlines_that_were_predicted():
    found = table({item.key: outline(0.5) for item in CASES}).loc["federated:end-to-end"]
    assert {model for model, _ in found.index} == {"best"}
    scores = found.loc["best"]["score_er"]
    assert scores.tolist() == pytest.approx([chance(0.5), chance(-0.5), chance(1.0)])
    assert set(found["threshold_er"]) == {0.6}


def test_a_case_in_which_nothing_was_outlined_gets_the_others_mean_and_one_without_outline_none():
    found = table({"x-p1-e-L": outline(0.5), "x-p2-e-L": outline(0.0), "x-p3-e-L": outline(0.5)})
    scores = found.loc["federated:end-to-end", "best"]
    # The case without outline has no PR of its own: its label is missing, whatever the others' mean says.
    assert scores["score_er"]["x-p2-e-L"] == pytest.approx((chance(0.5) + chance(1.0)) / 2)
    assert scores["score_er"]["x-p1-e-L"] == pytest.approx(chance(0.5))
    assert scores["truth_er"]["x-p2-e-L"] == 0.0
    partly = table({"x-p1-e-L": outline(0.5)}).loc["federated:end-to-end", "best"]
    assert list(partly.index) == ["x-p1-e-L"]


def test_a_case_that_the_crop_of_the_reference_misses_is_read_end_to_end_alone():
    def predict(model, item, plan, config, outline):
        missed = outline is None and item is CASES[1]
        return None if missed else TASK.evaluator.predict(model, item, plan, config, outline)

    task, told = replace(TASK, evaluator=replace(TASK.evaluator, predict=predict)), []
    outlines = {item.key: outline(0.5) for item in CASES}
    found = evaluate_models(task, TRAINED, CASES, None, CONFIG, outlines, lambda: told.append(1))
    read = found.groupby("arm")["case"].agg(set)
    assert read["federated"] == read["federated:branch"] == {"x-p1-e-L", "x-p3-e-L"}
    assert read["federated:end-to-end"] == {item.key for item in CASES}
    assert len(told) == 6


def test_where_nothing_is_outlined_in_any_case_there_is_no_such_reading():
    arms = {arm for arm, *_ in table({item.key: outline(0.0) for item in CASES}).index}
    assert arms == {"federated", "federated:branch"}


def test_a_centre_without_a_case_has_an_empty_table():
    found = evaluate_models(TASK, TRAINED, [], None, CONFIG, {}, lambda: None)
    check_table(found)
    assert found.empty


def test_a_models_weights_are_put_into_the_tasks_network():
    model = load_model(TASK, CONFIG, TRAINED.models["last"])
    assert torch.equal(model.weights, torch.tensor([3.0, 3.0]))
