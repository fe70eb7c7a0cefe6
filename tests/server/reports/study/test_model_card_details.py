"""Details of a task on the card: from what it declares and the configuration it sees, for every task there is."""

import pytest

from server.reports.study.model_card import details
from shared.config.run_config import parse_config
from shared.tasks import TASKS, task_named


def config(*tasks, **sections):
    data = {"root": "d", "sites": ["a", "b"], "external": "x"}
    return parse_config({"name": "t", "tasks": list(tasks), "data": data, **sections}, "t")


@pytest.mark.parametrize("name", TASKS)
def test_every_task_tells_its_network_its_training_and_its_threshold(name):
    task = task_named(name)
    facts = dict(details(task, config(name).for_task(name)))
    assert facts["model"] == f"{task.card.network} ({task.card.citation})"
    assert (facts["reads"], facts["answers"]) == (task.card.reads, task.card.answers)
    assert facts["loss"] == task.learner.loss_title
    assert facts["threshold"].startswith("Youden's" if task.scored else "probability 0.5")
    assert all(text for text in facts.values())


def test_settings_are_those_of_the_tasks_own_section():
    own = {"receptor_status": {"rounds": 7, "balance": "oversampling", "training": {"batch_size": 5}}}
    facts = dict(details(task_named("receptor-status"), config("receptor-status", **own).for_task("receptor-status")))
    assert facts["rounds"] == "7 of 20 steps a site, batches of 5"
    assert facts["balance"] == "oversampling"
    assert facts["patch"] == "voxels (36, 36, 36), over lesion 1.5"
    assert "training" not in facts


def test_a_task_without_augmentation_says_none():
    rival, outlines = "subtype-radiomics", "lesion-segmentation"
    assert dict(details(task_named(rival), config(rival).for_task(rival)))["augmentation"] == "none"
    facts = dict(details(task_named(outlines), config(outlines).for_task(outlines)))
    assert facts["augmentation"].startswith("at random: flip 0.5, ")
