"""Summaries against hand counts and direct calls of the bootstrap."""

import numpy as np
import pandas as pd
import pytest

from server.evaluation.saliency import DIFFERENCE, LEARNT, SUMMARY, saliency_summary
from shared.cohort.labels import SUBTYPES
from shared.config.sections import EvaluationConfig
from shared.metrics.intervals import bootstrap_patients
from shared.reproducibility import derive_seed
from shared.saliency import REGIONS
from shared.tasks.subtype_saliency import READERS

SETTINGS = EvaluationConfig(bootstrap=300)
COLUMNS = ("case", "patient", "subtype", "reader", "region", "value")


def tidy(values, patients=None, reader="volume", region="surroundings"):
    """Table of cases `(subtype, value)`."""
    return pd.DataFrame(
        [
            (f"c{index}", (patients or {}).get(index, f"p{index}"), subtype, reader, region, number)
            for index, (subtype, number) in enumerate(values)
        ],
        columns=list(COLUMNS),
    )


VALUES = {
    "luminal_a": [0.8, 1.0],
    "luminal_b": [0.6, 1.2],
    "her2_enriched": [5.0],
    "triple_negative": [1.5, 1.1, 1.9, np.nan],
}
CASES = [(subtype, value) for subtype, values in VALUES.items() for value in values]


def row(summary, subtype, region="surroundings", reader="volume"):
    chosen = summary[(summary["reader"] == reader) & (summary["subtype"] == subtype) & (summary["region"] == region)]
    assert len(chosen) == 1
    return chosen.iloc[0]


def test_means_and_the_difference_are_those_counted_by_hand():
    summary = saliency_summary(tidy(CASES), SETTINGS, 0)
    assert tuple(summary.columns) == SUMMARY
    assert len(summary) == len(READERS) * (len(SUBTYPES) * len(REGIONS) + 1)
    assert row(summary, "luminal_b")["value"] == pytest.approx(0.9)
    assert row(summary, "triple_negative")["value"] == pytest.approx(1.5)
    assert row(summary, "triple_negative")["n"] == 3
    found = row(summary, DIFFERENCE)
    assert found["value"] == pytest.approx(1.5 - 0.9)
    assert (found["n"], found["patients"]) == (7, 7)
    assert found["low"] < found["value"] < found["high"]
    assert LEARNT not in set(summary["subtype"])


def test_intervals_draw_patients_and_follow_the_configuration():
    own = tidy(CASES, {0: "p", 1: "p"})
    found = row(saliency_summary(own, SETTINGS, 4), "luminal_a")
    assert (found["n"], found["patients"]) == (2, 1)
    assert np.isnan(found["low"])  # one patient cannot spread
    seed = derive_seed(4, "saliency-bootstrap")
    for settings in (SETTINGS, EvaluationConfig(bootstrap=200, confidence=0.8)):
        expected = bootstrap_patients(
            [1.5, 1.1, 1.9], ["p5", "p6", "p7"], n=settings.bootstrap, seed=seed, confidence=settings.confidence
        )
        found = row(saliency_summary(own, settings, 4), "triple_negative")
        assert (found["low"], found["high"]) == (expected.low, expected.high)


def test_a_difference_that_an_untrained_network_shows_too_was_not_learnt():
    table = tidy(CASES)
    same = saliency_summary(table, SETTINGS, 0, untrained=table.sample(frac=1, random_state=0))
    assert row(same, DIFFERENCE)["value"] == pytest.approx(0.6)
    assert [row(same, LEARNT)[part] for part in ("value", "low", "high")] == [0, 0, 0]
    even = tidy([(subtype, 1.0) for subtype, _ in CASES])
    learnt = saliency_summary(table, SETTINGS, 0, untrained=even)
    parts = ["value", "low", "high", "n", "patients"]
    assert row(learnt, LEARNT)[parts].tolist() == pytest.approx(row(learnt, DIFFERENCE)[parts].tolist())
    # Of two starts the mean counts: 0.6 of the one and none of the other leave half.
    both = saliency_summary(table, SETTINGS, 0, untrained=pd.concat([table, even]))
    assert row(both, LEARNT)[parts].tolist() == pytest.approx([0.3, *(row(learnt, LEARNT)[parts[1:3]] / 2), 7, 7])


def test_without_one_side_there_is_no_difference():
    summary = saliency_summary(tidy(CASES[:5]), SETTINGS, 0)
    assert np.isnan(row(summary, DIFFERENCE)["value"])
    assert row(summary, "triple_negative")["n"] == 0
    assert np.isnan(row(summary, "triple_negative")["value"])


def test_the_same_seed_gives_the_same_summary_whatever_the_order():
    table = tidy(CASES)
    pd.testing.assert_frame_equal(
        saliency_summary(table, SETTINGS, 1), saliency_summary(table.iloc[::-1].reset_index(drop=True), SETTINGS, 1)
    )
