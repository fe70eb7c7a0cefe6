"""The arms beside the federation have its budget: the pooled one all sites' steps, a local one its own."""

from server.studies.comparator_arms import arm_config
from shared.config.run_config import parse_config

CONFIG = parse_config(
    {
        "name": "t",
        "data": {"root": "d", "sites": ["a", "b", "c"], "external": "x"},
        "training": {"steps_per_round": 5},
    },
    "t",
)


def test_the_pooled_arm_has_the_steps_of_all_sites_and_nothing_else_changes():
    pooled = arm_config("pooled", CONFIG, 3)
    assert pooled.training.steps_per_round == 15
    same = pooled.training.model_copy(update={"steps_per_round": 5})
    assert pooled.model_copy(update={"training": same}).model_dump() == CONFIG.model_dump()


def test_a_local_arm_has_the_steps_of_one_site():
    assert arm_config("local:a", CONFIG, 3) is CONFIG
