"""The six questions asked of mammograms: truths by hand, losses and scores by hand, networks by name."""

import math

import pytest
import torch

from shared.cohort.labels import CaseLabels
from shared.config.run_config import parse_config
from shared.errors import ConfigError
from shared.models.plane_networks import NETWORKS
from shared.tasks import TASKS, task_named
from shared.tasks.mammography import QUESTIONS, loss
from shared.tasks.task import OWN

NAMES = [question.name for question in QUESTIONS]


def config(task, rule="st-gallen-2023", **section):
    raw = {"name": "t", "tasks": [task], "data": {"root": "d", "sites": ["a"]}, "subtype_rule": rule}
    raw |= {"mammography": {"roi_pixels": 64, "whole_pixels": [64, 64]}, task.replace("-", "_"): section}
    return parse_config(raw, "t").for_task(task)


def truths(task, labels, rule="st-gallen-2023"):
    question = next(item for item in QUESTIONS if item.name == task)
    return dict(question.truths(labels, config(task, rule)))


A = {"er": True, "pr": True, "her2": False, "ki67_percent": 5.0}


@pytest.mark.parametrize(
    ("labels", "luminal", "negative", "five"),
    [
        (A, 1, 0, "luminal_a"),
        (A | {"ki67_percent": 30.0}, 1, 0, "luminal_b_her2_negative"),
        (A | {"her2": True}, 1, 0, "her2_luminal"),
        ({"er": False, "pr": False, "her2": True}, 0, 0, "her2_enriched"),
        ({"er": False, "pr": False, "her2": False}, 0, 1, "triple_negative"),
        ({"er": True, "pr": None, "her2": None}, 1, 0, None),  # luminal, whatever the rest
        ({"er": False, "pr": False, "her2": None}, 0, None, None),
        ({"er": False, "pr": None, "her2": True}, None, 0, None),
        ({}, None, None, None),
    ],
)
def test_classes_of_a_breast_by_its_receptors(labels, luminal, negative, five):
    own = CaseLabels(**labels)
    assert truths("mammography-luminal", own) == ({} if luminal is None else {"luminal": luminal})
    assert truths("mammography-triple-negative", own) == ({} if negative is None else {"triple_negative": negative})
    told = truths("mammography-subtype", own)
    assert [name for name, value in told.items() if value] == ([] if five is None else [five])
    assert len(told) in {0, 5}


def test_a_tables_own_subtype_counts_where_that_is_the_rule():
    own = CaseLabels(subtype="luminal_b", er=False, pr=False, her2=False)
    assert truths("mammography-luminal", own, "as-given") == {"luminal": 1.0}
    assert truths("mammography-triple-negative", own, "as-given") == {"triple_negative": 0.0}
    assert truths("mammography-subtype", own, "as-given")["luminal_b_her2_negative"] == 1.0
    assert truths("mammography-luminal", CaseLabels(er=True), "as-given") == {}
    # CMMD's luminal B does not say whether HER2 is positive, which two of the five classes differ by.
    assert truths("mammography-subtype", CaseLabels(subtype="luminal_b"), "as-given") == {}
    assert truths("mammography-luminal", CaseLabels(subtype="luminal_b"), "as-given") == {"luminal": 1.0}


def test_the_other_questions_read_their_columns():
    own = CaseLabels(her2=True, malignant=False, density="c")
    assert truths("mammography-her2", own) == {"her2": 1.0}
    assert truths("mammography-malignancy", own) == {"malignant": 0.0}
    density = {"density_a": 0.0, "density_b": 0.0, "density_c": 1.0, "density_d": 0.0}
    assert truths("mammography-density", own) == density
    assert truths("mammography-density", CaseLabels()) == {}


def test_a_breast_without_outline_takes_part_where_the_whole_is_read():
    own = CaseLabels(er=True, her2=False, malignant=True)
    bare, outlined = own, CaseLabels(er=True, her2=False, malignant=True, outlined=True)
    luminal, malignancy = task_named("mammography-luminal"), task_named("mammography-malignancy")
    assert not luminal.uses(bare, config("mammography-luminal"))
    assert luminal.uses(outlined, config("mammography-luminal"))
    assert luminal.uses(bare, config("mammography-luminal", extent="whole"))
    assert malignancy.uses(bare, config("mammography-malignancy"))


def test_the_loss_is_the_weighted_cross_entropy_of_each_view_and_both():
    outputs = [torch.tensor([[0.0, math.log(3)]]), torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(3), 0.0]])]
    target = torch.tensor([[0.0, 1.0, 2.0]])
    by_hand = 2 * (-math.log(0.75) - math.log(0.5) - math.log(0.25)) / 3
    assert float(loss(outputs, target)) == pytest.approx(by_hand)


def test_scores_are_told_of_both_views_and_of_each():
    outputs = [torch.tensor([[0.0, math.log(3)]]), torch.tensor([[0.0, 0.0]])]
    luminal = next(item for item in QUESTIONS if item.name == "mammography-luminal")
    (told,) = luminal.scores(outputs)
    assert {reading: table["luminal"] for reading, table in told.items()} == pytest.approx(
        {OWN: 0.625, "CC": 0.75, "MLO": 0.5}
    )
    density = next(item for item in QUESTIONS if item.name == "mammography-density")
    (told,) = density.scores([torch.zeros(1, 4), torch.zeros(1, 4)])
    assert told[OWN] == pytest.approx(dict.fromkeys(("density_a", "density_b", "density_c", "density_d"), 0.25))


@pytest.mark.parametrize("task", NAMES)
def test_each_task_has_a_network_of_its_own_seed_and_declares_what_pages_need(task):
    own = task_named(task)
    assert (own.name, own.modality, TASKS[task]) == (task, "mammography", "shared.tasks.mammography")
    view = config(task, network="simple-cnn")
    one, two = (own.learner.build_model(view).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    outputs = own.learner.build_model(view)(torch.zeros(2, *own.learner.shape(view)))
    assert outputs[0].shape == (2, max(2, len(own.scored)))
    assert own.headline.name.startswith("auc_")
    assert own.learner.sample is not None
    assert own.learner.loss(outputs, torch.eye(outputs[0].shape[1] + 1)[:2]).isfinite()


@pytest.mark.parametrize("network", NETWORKS)
def test_every_comparator_is_one_key_away(network):
    view = config("mammography-luminal", network=network, size="small")
    model = task_named("mammography-luminal").learner.build_model(view).eval()
    assert [item.shape for item in model(torch.zeros(1, 2, 1, 64, 64))] == [(1, 2), (1, 2)]


def test_what_no_network_can_read_is_said_at_once():
    with pytest.raises(ConfigError, match="there is no network 'alexnet'"):
        task_named("mammography-luminal").learner.build_model(config("mammography-luminal", network="alexnet"))
    raw = {"name": "t", "tasks": ["mammography-density"], "data": {"root": "d", "sites": ["a"]}}
    view = parse_config(raw | {"mammography_density": {"network": "vit-b16"}}, "t").for_task("mammography-density")
    with pytest.raises(ConfigError, match="reads squares"):
        task_named("mammography-density").learner.build_model(view)
