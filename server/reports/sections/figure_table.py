"""A table of figures as pages show it: one row of results in each cell, its interval below, its n where it differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from server.reports.metric_text import meaning
from server.run_folder.results import ResultRow
from shared.config.sections import EvaluationConfig
from shared.metrics.metric import Metric


@dataclass(frozen=True, slots=True)
class Column:
    """A column: the metric that it shows, its title and unit, a note below them, and whether it is too thin to rank."""

    metric: str
    title: str
    unit: str = ""
    note: str = ""
    few: bool = False

    @classmethod
    def of(cls, metric: Metric) -> Self:
        """A metric under its own title."""
        return cls(metric.name, metric.title, "" if metric.unit == "1" else metric.unit)


def figure_table(
    head: str, columns: Sequence[Column], lines: Mapping[str, Mapping[str, ResultRow]], *, each_n: bool = False
) -> dict[str, Any]:
    """One line per arm, model or site, one column per metric that some line has; the line `all` is a total.

    n stands in each cell with `each_n`; otherwise once for each line, and in a cell only where it differs.
    """
    used = [column for column in columns if any(column.metric in rows for rows in lines.values())]
    return {
        "head": head,
        "columns": used,
        "meanings": False,
        "each_n": each_n,
        "lines": [
            {
                "name": name,
                "rows": [rows.get(column.metric) for column in used],
                "n": max((rows[column.metric].n for column in used if column.metric in rows), default=0),
                "total": name == "all",
            }
            for name, rows in lines.items()
        ],
    }


def metric_table(
    metrics: Sequence[Metric], arms: Mapping[str, Mapping[str, ResultRow]], config: EvaluationConfig
) -> dict[str, Any]:
    """One line per metric that some arm has, with its meaning, and one column per arm."""
    used = [metric for metric in metrics if any(metric.name in rows for rows in arms.values())]
    return {
        "head": "Figure",
        "columns": [Column("", arm) for arm in arms],
        "meanings": True,
        "each_n": False,
        "lines": [
            {
                "name": metric.title,
                "unit": "" if metric.unit == "1" else metric.unit,
                "rows": (rows := [known.get(metric.name) for known in arms.values()]),
                "n": max(row.n for row in rows if row),
                "total": False,
                "meaning": meaning(metric, config),
            }
            for metric in used
        ],
    }
