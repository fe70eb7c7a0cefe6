"""The comparison of arms: the pairing by hand, and the pooled arm's budget."""

import pandas as pd
import pytest

from server.studies import arms
from server.studies.comparison import summarise
from shared.config import parse_config

CONFIG = parse_config(
    {"name": "t", "data": {"root": "d", "sites": ["a", "b"], "external": "x"}, "federation": {"rounds": 3}}, "t"
)


def table(dice):
    """`dice[arm][seed]` is a list over patients of the external centre."""
    rows = [
        {
            "role": "external",
            "arm": arm,
            "seed": seed,
            "case": f"x-{i}-e-L",
            "patient": f"x-{i}",
            "centre": "x",
            "dice": v,
        }
        for arm, seeds in dice.items()
        for seed, values in seeds.items()
        for i, v in enumerate(values)
    ]
    return pd.DataFrame(rows)


def test_means_and_paired_differences_by_hand():
    judged = table(
        {
            "federated": {0: [0.8, 0.6], 1: [0.9, 0.7]},
            "local:a": {0: [0.7, 0.6], 1: [0.7, 0.4]},
            "pooled": {0: [0.85, 0.75], 1: [0.85, 0.75]},
        },
    )
    summary = summarise(judged, CONFIG).set_index("arm")
    assert summary.loc["federated", "dice"] == pytest.approx(0.75)
    assert summary.loc["local:a", "dice"] == pytest.approx(0.6)
    assert summary.loc["local:a", "federated_minus"] == pytest.approx(0.15)
    assert summary.loc["pooled", "federated_minus"] == pytest.approx(-0.05)
    assert summary.loc["federated", "federated_minus_low"] == 0
    # The patient is the unit: two seeds of two patients are two patients.
    assert set(summary["n"]) == {2}
    assert set(summary["seeds"]) == {2}
    assert summary.loc["local:a", "by_seed"] == "0.650 0.550"
    # Two patients with differences .15 and .15: every resample says the same.
    assert summary.loc["local:a", "federated_minus_low"] == pytest.approx(0.15)


def test_every_arm_has_the_federations_budget(monkeypatch):
    calls = []

    def record(model, cases, config, *, round_number, site):
        calls.append((site, round_number, config.training.steps_per_round, list(cases)))

    monkeypatch.setattr(arms, "train_round", record)
    cases = {"a": ["a1", "a2"], "b": ["b1"]}
    arms.train_arm("local:b", CONFIG, cases, lambda _: None)
    steps = CONFIG.training.steps_per_round
    assert calls == [("b", number, steps, ["b1"]) for number in (1, 2, 3)]
    calls.clear()
    arms.train_arm("pooled", CONFIG, cases, lambda _: None)
    assert calls == [("pooled", number, 2 * steps, ["a1", "a2", "b1"]) for number in (1, 2, 3)]
    assert arms.arm_names(CONFIG) == ["federated", "local:a", "local:b", "pooled"]
