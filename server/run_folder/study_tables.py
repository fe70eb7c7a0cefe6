"""The tables of a cross-centre study, and the CSV files that hold them to the last bit."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd

from server.run_folder.results import ResultRow, replace_file
from shared.errors import RunError

# Kind of each column: "s" text, "f" a number or nothing, "i" a count, "b" yes or no.
RESULTS = dict(zip(ResultRow.model_fields, "ssissssfffis", strict=True))
SUMMARY = {
    **dict.fromkeys(("task", "arm", "centre", "role", "metric", "unit"), "s"),
    **dict.fromkeys(("value", "ci_low", "ci_high"), "f"),
    **dict.fromkeys(("n", "patients", "seeds"), "i"),
    "ranked": "b",
    "note": "s",
}
COMPARISONS = {
    **dict.fromkeys(("task", "metric", "centre", "arm"), "s"),
    **dict.fromkeys(("difference", "ci_low", "ci_high"), "f"),
    "n": "i",
    **dict.fromkeys(("p", "p_holm"), "f"),
    "primary": "b",
}
META = {
    **dict.fromkeys(("task", "quantity", "metric", "unit"), "s"),
    "k": "i",
    **dict.fromkeys(("estimate", "ci_low", "ci_high", "pi_low", "pi_high", "tau2", "i2", "q", "q_p"), "f"),
}
SUBGROUPS = {
    **dict.fromkeys(("task", "metric", "arm", "factor", "level"), "s"),
    **dict.fromkeys(("value", "ci_low", "ci_high"), "f"),
    **dict.fromkeys(("n", "patients"), "i"),
    "ranked": "b",
    **dict.fromkeys(("difference", "difference_low", "difference_high", "p", "p_bh"), "f"),
}

_KINDS = {"s": "str", "f": "float64", "i": "int64", "b": "bool"}


@dataclass(frozen=True, slots=True)
class StudyTables:
    """What the statistics of a study say; NaN where a figure does not exist.

    Attributes
    ----------
    results
        The columns of `ResultRow`, one row for each task, arm, seed, centre, role, metric and model. Centre `all`: all
        held-out centres together, without a model of its own.
    summary
        Over seeds: task, arm (also `local`, the mean of a fold's local models), centre, role, metric, unit, value,
        ci_low, ci_high, n (cases), patients, seeds, ranked (no for thin cells), note (why thin or undefined).
    comparisons
        Federated minus arm on the same cases: task, metric, centre, arm, difference, ci_low, ci_high, n, p, p_holm (of
        the primary family alone), primary.
    meta
        Held-out centres pooled by random effects: task, quantity (an arm, or `federated-<arm>`), metric, unit, k,
        estimate, ci_low, ci_high, pi_low, pi_high, tau2 (of AUCs on the logit scale), i2 (%), q, q_p.
    subgroups
        First metric of a task, arms `federated` and `local`: task, metric, arm, factor, level, value, ci_low, ci_high,
        n, patients, ranked; in the federated rows difference (federated minus local), difference_low,
        difference_high, p, p_bh (the task's family).

    """

    results: pd.DataFrame
    summary: pd.DataFrame
    comparisons: pd.DataFrame
    meta: pd.DataFrame
    subgroups: pd.DataFrame


_COLUMNS = {
    "results": RESULTS,
    "summary": SUMMARY,
    "comparisons": COMPARISONS,
    "meta": META,
    "subgroups": SUBGROUPS,
}


def typed(rows: list[dict[str, object]], columns: dict[str, str]) -> pd.DataFrame:
    """Rows as one of the tables: its columns in order, of their kinds, also without a row; `None` becomes NaN."""
    return pd.DataFrame(rows, columns=list(columns)).astype({name: _KINDS[kind] for name, kind in columns.items()})


def write_tables(folder: Path, tables: StudyTables) -> None:
    """Write `results.csv`, `summary.csv`, `comparisons.csv`, `meta_analysis.csv`, `subgroups.csv`, each atomically.

    Numbers have the shortest text that reads back to the same bits; what does not exist is an empty cell.
    """
    for item in fields(tables):
        # pandas' default writes floats by their shortest exact text.
        text = getattr(tables, item.name).to_csv(index=False, lineterminator="\n")
        replace_file(_path(folder, item.name), text.encode())


def read_tables(folder: Path) -> StudyTables:
    """Read what `write_tables` wrote, bit for bit; `RunError` where a file is absent or not that table."""
    return StudyTables(**{name: _read(_path(folder, name), columns) for name, columns in _COLUMNS.items()})


def _path(folder: Path, name: str) -> Path:
    return folder / ("meta_analysis.csv" if name == "meta" else f"{name}.csv")


def _read(path: Path, columns: dict[str, str]) -> pd.DataFrame:
    # Numbers as texts first: how exactly pandas reads them depends on its version. A level called "NA" is a text.
    kinds = {name: _KINDS["s" if kind == "f" else kind] for name, kind in columns.items()}
    try:
        table = pd.read_csv(path, dtype=kinds, keep_default_na=False)
        if list(table.columns) != list(columns):
            raise RunError(f"{path.parent.name}/{path.name} has other columns than {', '.join(columns)}")
        numbers = {name: [float(text or "nan") for text in table[name]] for name in columns if columns[name] == "f"}
    except (OSError, ValueError) as error:
        raise RunError(f"{path.parent.name}/{path.name} cannot be read: did the statistics finish?") from error
    return table.assign(**{name: np.array(values, np.float64) for name, values in numbers.items()})
