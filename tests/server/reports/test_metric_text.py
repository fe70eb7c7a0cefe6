"""Figures are named and explained as their tasks declare, and rounded for their unit."""

import math
from types import SimpleNamespace

import pytest

from server.reports.metric_text import (
    DASH,
    between,
    counted,
    data_of,
    duration,
    fixed,
    in_words,
    interval,
    label,
    listed,
    meaning,
    opening,
    p_value,
    pairs,
    rounded,
    unit,
    value,
    with_interval,
    within,
)
from server.run_folder.results import ResultRow
from shared.config.sections import EvaluationConfig
from shared.tasks import TASKS, task_named


def row(metric="hd95", kind="mm", number=3.14159, low=1.0, high=2.26):
    return ResultRow(
        task="lesion-segmentation", arm="federated", seed=0, centre="d", role="external", metric=metric, unit=kind,
        value=number, ci_low=low, ci_high=high, n=4, model_hash="h",
    )  # fmt: skip


def test_a_figure_has_its_tasks_title_and_its_units_decimals():
    assert (label(row()), unit(row()), value(row()), interval(row())) == ("HD95", "mm", "3.1", "1.0 to 2.3")
    share = row("dice", "1", 0.5, None, None)
    assert (unit(share), value(share), interval(share)) == ("", "0.500", DASH)
    assert label(row("of_an_older_version")) == "of an older version"


@pytest.mark.parametrize("task", TASKS)
def test_every_meaning_is_written_with_the_runs_settings(task):
    config = EvaluationConfig(nsd_tolerance_mm=1.5, lesion_overlap=0.25)
    texts = {metric.name: meaning(metric, config) for metric in task_named(task).metrics}
    assert all(text.endswith(".") and "{" not in text for text in texts.values())
    assert task != "lesion-segmentation" or "within 1.5 mm" in texts["nsd"]


def test_numbers_have_a_true_minus_sign_and_no_negative_zero():
    assert [fixed(number, 1) for number in (-1.25, -0.04, None, math.nan)] == ["\N{MINUS SIGN}1.2", "0.0", DASH, DASH]


def test_words_are_listed_counted_and_opened():
    assert [listed(words) for words in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]
    assert (counted(1, "case"), counted(0, "case"), counted(2, "case")) == ("1 case", "0 cases", "2 cases")
    assert opening("centre-A's") == "Centre-A's"
    assert (in_words(0), in_words(4), in_words(12)) == ("no", "four", "12")
    assert (pairs({"torch": "2.13.0", "seed": 3}), pairs({})) == ("torch 2.13.0, seed 3", "")
    assert (duration(123.4), duration(59.6)) == ("2 min 3 s", "1 min 0 s")


def test_numbers_are_rounded_for_their_unit_and_what_does_not_exist_is_a_dash():
    assert rounded(0.12345, "1") == "0.123"
    assert rounded(-2.34, "mm") == "\N{MINUS SIGN}2.3"
    assert rounded(math.nan, "ml") == rounded(None, "ml") == "\N{EN DASH}"
    assert between(0.1, math.nan, "1") == "\N{EN DASH}"
    assert with_interval(0.5, 0.25, 0.75, "1") == "0.500 (0.250 to 0.750)"
    assert with_interval(0.5, None, None, "1") == "0.500"
    assert (p_value(0.0004), p_value(0.0426), p_value(math.nan)) == ("<0.001", "0.043", "\N{EN DASH}")


@pytest.mark.parametrize(
    ("phantom", "which", "words"),
    [
        (False, (), "site folders"),
        (True, (), "phantoms (generated)"),
        (True, ("a", "b"), "phantoms at a and b, patients' elsewhere"),
    ],
)
def test_what_the_data_are_is_said_in_words(phantom, which, words):
    assert data_of(SimpleNamespace(phantom=phantom, phantom_sites=which)) == words


@pytest.mark.parametrize(
    ("text", "inside"),
    [("Simple CNN", "simple CNN"), ("CC alone", "CC alone"), ("End to end", "end to end"), ("", "")],
)
def test_within_a_sentence_only_an_abbreviation_keeps_its_capital(text, inside):
    assert within(text) == inside
