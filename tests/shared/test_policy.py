"""The hospital's policy: each rule at its border."""

import re
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from shared.config.run_config import parse_config
from shared.errors import RunError
from shared.policy import OPEN, Policy, without_floors

LESION, SUBTYPE = "lesion-segmentation", "subtype-ensemble"


def config(**sections):
    return parse_config({"name": "t", "data": {"root": "d", "sites": ["a", "b"]}, **sections}, "t")


@pytest.mark.parametrize(
    ("policy", "run", "words"),
    [
        ({"tasks": [LESION]}, {"tasks": [LESION, SUBTYPE]}, [f"does not allow {SUBTYPE}, only {LESION}"]),
        ({"max_rounds": 9}, {"federation": {"rounds": 10}}, ["the run has 10 rounds, this hospital's policy allows 9"]),
        ({"differential_privacy": True}, {}, ["only in runs that train with differential privacy"]),
        ({"least_cases_per_step": 3}, {"training": {"batch_size": 2}}, [f"{LESION} trains with batch_size = 2"]),
        (
            {},
            {"training": {"steps_per_round": 4}},
            ["steps_per_round = 4, this hospital's policy allows no less than 5"],
        ),
        ({}, {"training": {"gradient_clip": 0.09}}, ["gradient_clip = 0.09"]),
        (
            {},
            {
                "tasks": [LESION, SUBTYPE],
                "subtype_ensemble": {"training": {"steps_per_round": 1, "gradient_clip": 0.01}},
            },
            [f"{SUBTYPE} trains with steps_per_round = 1", f"{SUBTYPE} trains with gradient_clip = 0.01"],
        ),
        ({"tasks": []}, {"tasks": [LESION, SUBTYPE]}, []),
        ({"tasks": [LESION, SUBTYPE]}, {"tasks": [SUBTYPE]}, []),
        ({"max_rounds": 10}, {"federation": {"rounds": 10}}, []),
        ({}, {"training": {"steps_per_round": 5, "gradient_clip": 0.1}}, []),
    ],
)
def test_what_it_forbids_is_told_and_nothing_else(policy, run, words):
    objections = Policy(**policy).objections(config(**run))
    assert len(objections) == len(words)
    assert all(part in objection for part, objection in zip(words, objections, strict=True))


def test_simulation_and_phantoms_have_no_floors_and_phantoms_keep_the_rest():
    extreme = {"training": {"steps_per_round": 1, "gradient_clip": 1e-12}, "federation": {"rounds": 5000}}
    assert OPEN.objections(config(**extreme)) == ["the run has 5000 rounds, this hospital's policy allows 1000"]
    kept = without_floors(Policy(max_rounds=7, tasks=(LESION,), least_patients=8))
    assert (kept.max_rounds, kept.tasks, kept.least_patients, kept.guards_patients) == (7, (LESION,), 1, False)
    assert Policy().guards_patients


def test_training_patients_are_counted_by_one_rule_and_not_where_nobody_is_guarded():
    policy = Policy(least_training_patients=3)
    policy.need_training({"a", "b", "c"})
    with pytest.raises(RunError, match=r"^fewer than the 3 training patients of its policy$"):
        policy.need_training({"a", "b"})
    with pytest.raises(RunError, match="of its policy; 2 cases wait, as too few patients changed"):
        policy.need_training({"a", "b"}, waiting=2)
    OPEN.need_training(set())


@pytest.mark.parametrize(
    "wrong", [{"tasks": ["lesions"]}, {"least_patients": 0}, {"max_excluded_share": 1.1}, {"most": 1}]
)
def test_a_policy_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValidationError):
        Policy(**wrong)


def test_the_page_and_a_new_kit_have_every_key_with_its_default():
    root = Path(__file__).parents[2]
    defaults = Policy().model_dump(mode="json")
    page = re.findall(r"^\| `(\w+)` \| (\S+) \|", (root / "docs" / "policy.md").read_text(), re.MULTILINE)
    shown = {name: tomllib.loads(f"value = {value.strip('`')}")["value"] for name, value in page}
    assert shown == defaults
    template = (root / "server" / "deployment" / "provisioning" / "node.toml.j2").read_text().partition("[policy]")[2]
    assert set(re.findall(r"^(\w+) = ", template, re.MULTILINE)) == defaults.keys()
