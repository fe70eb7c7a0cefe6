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
    assert "21% of the patients choose the round, 17% are for testing" in text
    assert f"task '{LESION}': 7 rounds of 33 steps with 3 cases each, learning rate 0.004" in text
    assert "below 5 as 'few'" in text
    assert "dice" in text
    assert "auc_er" not in text
    assert "REFUSED" not in text
    assert (
        f"about {questions(run)}; of patients {5 * questions(run)} in 31 days are answered here, with 5 plans" in text
    )
    assert (
        "the server chooses seed, first weights, preprocessing plan, and the order and number of its questions" in text
    )
    assert "learning rate 0.004 after 0 steps of warm-up" in text
    assert "samples changed at random: flip 50%, affine 30%" in text
    assert "cases read at once: 1" in text
    assert "locked centre: it never trains" in "\n".join(told(run, "c", Policy()))
    assert "has no part" in "\n".join(told(run, "z", Policy()))


def test_what_the_policy_will_refuse_is_told_before_it_is_approved():
    still = dict.fromkeys(("flip", "affine", "intensity", "timing", "noise", "bias_field", "blur"), 0.0)
    lines = told(config(training={"steps_per_round": 1, "augmentation": still}), "a", Policy())
    assert f"REFUSED as the policy stands: {LESION} trains with steps_per_round = 1" in lines[-1]
    assert sum("samples are NOT changed at random" in line for line in lines) == 1


def test_a_small_share_does_not_read_as_none_and_a_tiny_one_not_as_much():
    shares = {"validation": 0.004, "test": 0.1}
    still = dict.fromkeys(("affine", "intensity", "timing", "noise", "bias_field", "blur"), 0.0) | {"flip": 1e-9}
    training = {"augmentation": still, "warmup_steps": 7}
    text = "\n".join(told(config(splits=shares, training=training, preprocessing={"workers": 3}), "a", Policy()))
    assert "0.4% of the patients choose the round" in text
    assert "samples changed at random: flip 1e-07%, affine 0%, intensity 0%" in text
    assert "after 7 steps of warm-up" in text
    assert "cases read at once: 3" in text


def test_every_key_that_differs_is_told_and_no_other():
    before = ApprovedConfiguration(configuration=config().canonical(), at="2026-01-01", sha256="ab" * 32)
    assert changes(before, config(seed=4)) == []
    now = config(splits={"validation": 0.5}, data={"root": "x", "sites": ["a"], "external": "c"})
    assert changes(before, now) == [
        "data.sites: ['a', 'b'] -> ['a']",
        "splits.validation: 0.17 -> 0.5",
    ]
