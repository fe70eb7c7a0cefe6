"""What a configuration asks, in plain words: every figure is the configuration's own, every change is told."""

from client.node.approved_configurations import ApprovedConfiguration
from client.node.run_request import changes, questions, told
from shared.config.run_config import parse_config
from shared.policy import Policy

LESION, SUBTYPE = "lesion-segmentation", "subtype-ensemble"


def config(**sections):
    raw = {"name": "t", "data": {"root": "d", "sites": ["a", "b"], "external": "c"}, "tasks": [LESION, SUBTYPE]}
    return parse_config({**raw, **sections}, "t")


def test_every_figure_of_a_run_is_told():
    run = config(
        federation={"rounds": 7}, training={"steps_per_round": 33, "batch_size": 3}, splits={"validation": 0.21}
    )
    text = "\n".join(told(run, "a", Policy()))
    assert "2 hospitals train (a, b); locked centre: c" in text
    assert "a trains" in text
    assert "21% of the patients choose the round, 17% are kept for testing" in text
    assert f"task '{LESION}': 7 rounds of 33 steps with 3 cases each, learning rate 0.004" in text
    assert "below 5 as 'few'" in text
    assert "dice" in text
    assert "auc_er" not in text
    assert "REFUSED" not in text
    assert f"about {questions(run)}; this hospital answers 1000 a run" in text
    assert "locked centre: it never trains" in "\n".join(told(run, "c", Policy()))
    assert "has no part" in "\n".join(told(run, "z", Policy()))


def test_what_the_policy_will_refuse_is_told_before_it_is_approved():
    still = dict.fromkeys(("flip", "affine", "intensity", "timing", "noise", "bias_field", "blur"), 0.0)
    lines = told(config(training={"steps_per_round": 1, "augmentation": still}), "a", Policy())
    assert f"REFUSED as the policy stands: {LESION} trains with steps_per_round = 1" in lines[-1]
    assert sum("WITHOUT random changes" in line for line in lines) == 1


def test_every_key_that_differs_is_told_and_no_other():
    before = ApprovedConfiguration(configuration=config().canonical(), at="2026-01-01", sha256="ab" * 32)
    assert changes(before, config(seed=4)) == []
    now = config(splits={"validation": 0.5}, data={"root": "x", "sites": ["a"], "external": "c"})
    assert changes(before, now) == [
        "data.sites: ['a', 'b'] -> ['a']",
        "splits.validation: 0.17 -> 0.5",
    ]
