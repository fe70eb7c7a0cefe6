"""How figures are named, rounded and explained on pages; names and meanings are the tasks' own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from server.run_folder.finished_study import StudyProvenance
from server.run_folder.results import Provenance, ResultRow
from shared.config.sections import EvaluationConfig
from shared.metrics.metric import Metric
from shared.tasks import task_named

DASH = "\N{EN DASH}"
_DIGITS = {"mm": 1, "ml": 2, "%": 1, "cases": 0}


def label(row: ResultRow) -> str:
    """Name of a figure as pages write it."""
    metric = task_named(row.task).metric(row.metric)
    return metric.title if metric else row.metric.replace("_", " ")


def meaning(metric: Metric, config: EvaluationConfig) -> str:
    """What a figure is, with this run's settings."""
    return metric.meaning.format(**config.model_dump())


def unit(row: ResultRow) -> str:
    """Unit as shown; shares have none."""
    return "" if row.unit == "1" else row.unit


def value(row: ResultRow) -> str:
    """The figure, rounded for its unit; a dash where it does not exist."""
    return rounded(row.value, row.unit)


def interval(row: ResultRow) -> str:
    """Both bounds, rounded like the figure; a dash where there is no interval."""
    return between(row.ci_low, row.ci_high, row.unit)


def rounded(number: Any, unit: str) -> str:
    """A number rounded for its unit; a dash for none."""
    return fixed(number, digits(unit))


def between(low: Any, high: Any, unit: str) -> str:
    """An interval rounded for its unit; a dash for none."""
    return DASH if pd.isna(low) or pd.isna(high) else f"{rounded(low, unit)} to {rounded(high, unit)}"


def with_interval(number: Any, low: Any, high: Any, unit: str) -> str:
    """A number and its interval on one line; the number alone where it has none."""
    bounds = between(low, high, unit)
    return rounded(number, unit) + ("" if bounds == DASH else f" ({bounds})")


def p_value(p: Any) -> str:
    """A p value; a dash for none."""
    return "<0.001" if not pd.isna(p) and p < 0.001 else fixed(p, 3)  # noqa: PLR2004 - the usual last digit


def digits(unit: str) -> int:
    """Decimals of a figure in this unit."""
    return _DIGITS.get(unit, 3)


def fixed(number: Any, digits: int) -> str:
    """A number with fixed decimals and a true minus sign; a dash for what does not exist."""
    if pd.isna(number):
        return DASH
    text = f"{number:.{digits}f}"
    if float(text) == 0:
        text = text.removeprefix("-")
    return text.replace("-", "\N{MINUS SIGN}")


def data_of(made: Provenance | StudyProvenance) -> str:
    """What the data are: phantoms, patients', or which sites' are phantoms."""
    if made.phantom_sites:
        return f"phantoms at {listed(made.phantom_sites)}, patients' elsewhere"
    return "phantoms (generated)" if made.phantom else "site folders"


def listed(words: Sequence[str]) -> str:
    """Words with commas and an `and`."""
    return " and ".join([", ".join(words[:-1]), *words[-1:]] if len(words) > 1 else words)


def pairs(values: Mapping[str, object]) -> str:
    """Names with their values: "flwr 1.42.0, torch 2.13.0"."""
    return ", ".join(f"{name} {text}" for name, text in values.items())


def ordered(excluded: Mapping[str, int]) -> list[tuple[str, int]]:
    """Reasons of leaving cases out with their counts, the most frequent first."""
    return sorted(excluded.items(), key=lambda item: (-item[1], item[0]))


def reasons(excluded: Mapping[str, int]) -> str:
    """Reasons with their counts in words: "missing phase (3), empty mask (1)"."""
    return ", ".join(f"{reason.replace('_', ' ')} ({count})" for reason, count in ordered(excluded))


def duration(seconds: float) -> str:
    """Minutes and seconds."""
    return "{} min {} s".format(*divmod(round(seconds), 60))


def in_words(number: int) -> str:
    """A count up to nine in words."""
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    return words[number] if number < len(words) else str(number)


def counted(number: int, noun: str) -> str:
    """A number with its noun: "1 case", "2 cases"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def opening(text: str) -> str:
    """A text with its first letter as a capital."""
    return f"{text[:1].upper()}{text[1:]}"


def within(text: str) -> str:
    """A text as it stands within a sentence: its first letter small, unless it begins an abbreviation."""
    return text if text[:2].isupper() else f"{text[:1].lower()}{text[1:]}"
