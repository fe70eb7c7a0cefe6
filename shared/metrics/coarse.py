"""Figures of few patients, told no finer than that one of them alone rarely shows: what a hospital sends of patients.

This bounds what one answer tells; it does not hide a patient from whoever knows all others, which takes random noise
(differential privacy). The rounding is deterministic: the same model, asked about again, gets the same answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from shared.metrics.metric import Metric
from shared.metrics.sums import BINS, Moments, Sums

Rows = Sequence[tuple[str, Mapping[str, float | None]]]
"""Of each case its patient, and its columns of the per-case table."""

_SPAN = {"1": 1.0, "%": 100.0, "mm": 20.0, "ml": 20.0, "nat": 10.0}
"""About how far one patient's value lies from another's, by the metric's unit."""


def grouped_scores(rows: Rows, metrics: Sequence[Metric], least: int) -> list[dict[str, float | None]]:
    """The rows with each score in place of that of its group: `least` patients or more whose scores are neighbours.

    Scores are grouped as the histograms' bins are, from below; those left at the upper end join the group before. A
    group's score is the middle of its middle case's bin: where fewer than `least` of many lie apart, nothing shows.
    """
    changed = [dict(row) for _, row in rows]
    for truth, score in _scored(metrics):
        places: dict[int, list[int]] = {}
        for index, (_, row) in enumerate(rows):
            value = row.get(score)
            if value is not None and row.get(truth) is not None:
                places.setdefault(min(int(value * BINS), BINS - 1), []).append(index)
        groups: list[list[tuple[int, int]]] = [[]]
        for place in sorted(places):
            if len({rows[index][0] for _, index in groups[-1]}) >= least:
                groups.append([])
            groups[-1] += [(place, index) for index in places[place]]
        if len(groups) > 1 and len({rows[index][0] for _, index in groups[-1]}) < least:
            groups[-2:] = [groups[-2] + groups[-1]]
        for group in groups:
            for _, index in group:
                changed[index][score] = (group[(len(group) - 1) // 2][0] + 0.5) / BINS
    return changed


def coarse(sums: Sums, metrics: Sequence[Metric], least: int) -> Sums:
    """Sums of patients, told coarsely; of those that are made of grouped scores all is told.

    A sum of a value goes to a multiple of its span (`_SPAN`) and its deviation with it; what is counted, and how many
    cases lack a value, to a multiple of `least`.
    """
    grouped = {(truth, score) for truth, score in _scored(metrics)}
    parts = dict(sums.parts)
    for metric in metrics:
        if metric.sent == "counts":
            parts |= {name: _rounded(sums.count(name), least, sums.n) for name in metric.columns}
        elif metric.sent == "moments" and metric.columns not in grouped and (own := sums.moments(metric.name)).n:
            parts[metric.name] = _coarse(own, metric, max(least, sums.n - _rounded(sums.n - own.n, least, sums.n)))
    return replace(sums, parts=parts)


def _scored(metrics: Sequence[Metric]) -> dict[tuple[str, str], None]:
    """The columns (truth, score) of the histograms."""
    histograms = [metric.columns for metric in metrics if metric.sent == "histogram"]
    return {(columns[at], columns[at + 1]): None for columns in histograms for at in range(0, len(columns), 2)}


def _rounded(count: int, least: int, cases: int) -> int:
    """A multiple of `least`; of what a case has once at most, not more than the cases."""
    nearest = (count + least // 2) // least * least
    return cases if count <= cases < nearest else nearest


def _coarse(moments: Moments, metric: Metric, n: int) -> Moments:
    """As of `n` cases with about this mean and deviation; in the range that the metric has."""
    span = _SPAN.get(metric.unit, 1.0)
    total = span * round((moments.mean or 0.0) * n / span)
    total = max(-n * metric.largest if metric.signed else 0.0, min(n * metric.largest, total))
    deviation = span / n * round((moments.deviation or 0.0) * n / span)
    squares = total**2 / n + (n - 1) * deviation**2
    return Moments(n, total, min(squares, n * metric.largest**2))
