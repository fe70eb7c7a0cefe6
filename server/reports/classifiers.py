"""What the page says of one classifier: plain values for `classifiers.html`, from the task's rows and per-case table.

Every AUC stands beside its counts; with fewer than ten cases of a class it is shown and not ranked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import pandas as pd

from server.classified import classification_rows, compare_arms
from server.reports import score_figures
from server.reports.wording import DASH, fixed
from server.results import ResultRow
from shared.config_sections import EvaluationConfig
from shared.errors import RunError
from shared.metrics.classification import LABELS, SUBTYPES

ARM, END_TO_END, ORACLE = "federated", "federated:end-to-end", "oracle"
FEWEST = 10  # cases of either class from which a figure is ranked

_TITLES = {
    "subtype-ensemble": "Molecular subtype",
    "receptor-status": "Receptor status",
    "receptor-ki67-multitask": "Receptors and Ki-67",
    "lesion-malignancy": "Malignancy",
}
_ARMS = {ARM: "Reference outline", END_TO_END: "End to end"} | {
    f"{ARM}:{name}": f"{name.capitalize()} alone" for name in ("axial", "coronal", "sagittal", "volume")
}
_LABELS = {
    "luminal_a": "Luminal A",
    "luminal_b": "Luminal B",
    "her2_enriched": "HER2-enriched",
    "triple_negative": "Triple negative",
    "er": "ER",
    "pr": "PR",
    "her2": "HER2",
    "malignant": "Malignant",
    "macro": "Mean of the four",
}
_REMARKS = {
    END_TO_END: "End to end: in the outline that the federated ResU-Net predicted; without one a case gets the others' "
    "mean scores.",
    f"{ARM}:volume": "Alone: one branch of the ensemble, in the reference outline.",
    ORACLE: "Oracle: the best of what is possible on these phantoms, from many more simulated cases than these.",
}
_SHARES = ("sensitivity", "specificity", "ppv", "npv", "prevalence")
_KI67 = ("mae_ki67", "mae_ki67_of_mean", "bias_ki67", "limit_low_ki67", "limit_high_ki67")
_ROLES = {
    "test": "Test cases of the training sites, never used to train or to choose.",
    "validation": "Validation cases, which chose the round and the thresholds: optimistic.",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure of a table as shown; `row` is where it comes from, `why` explains a missing value or adds to it."""

    row: ResultRow
    text: str
    interval: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class _Judged:
    """The chosen model at the external centre: cases of all arms, rows by arm and metric."""

    centre: str
    cases: pd.DataFrame
    rows: Mapping[str, Mapping[str, ResultRow]]
    config: EvaluationConfig
    phantom: bool

    @property
    def labels(self) -> list[str]:
        """Binary labels that the federated model answers."""
        return [name for name in LABELS if f"auc_{name}" in self.rows[ARM]]

    @property
    def heard(self) -> list[str]:
        """What sums the task up: the mean over subtypes where it exists, otherwise each label."""
        macro = self.rows[ARM].get("auc_macro")
        return ["macro"] if macro is not None and macro.value is not None else self.labels

    @property
    def subject(self) -> str:
        return "phantom cases" if self.phantom else "cases"

    def part(self, label: str, arm: str = ARM) -> pd.DataFrame:
        return self.cases[(self.cases["arm"] == arm) & (self.cases["label"] == label)]

    def counts(self, label: str) -> tuple[int, int]:
        """Positive cases and all cases with the label."""
        part = self.part(label)
        return int(part["truth"].sum()), len(part)

    def few(self, label: str) -> bool:
        if label == "macro":
            return any(self.few(name) for name in SUBTYPES)
        positives, n = self.counts(label)
        return min(positives, n - positives) < FEWEST

    def why(self, label: str) -> str:
        """Why a label has no AUC."""
        if label == "macro":
            return "the mean needs an AUC of each of the four subtypes"
        positives, n = self.counts(label)
        return f"{positives} of {n} cases positive, both classes are needed" if n else "no case here has the label"


def classifier_section(
    task: str,
    rows: Sequence[ResultRow],
    table: pd.DataFrame | None,
    best: str,
    config: EvaluationConfig,
    *,
    phantom: bool,
    centre: str | None,
    rivals: Mapping[str, pd.DataFrame] = {},
) -> dict[str, Any]:
    """Everything that `classifiers.html` shows of one task, there called `part`.

    Parameters
    ----------
    task, rows
        The task and its rows: training sites from sums, the external centre from `classification_rows`.
    table
        Long per-case table of the external centre; `None` without one.
    best
        Hash of the chosen model: others in the rows and the table are left out.
    config
        Resamples and confidence; the tests of one arm against another are drawn anew.
    phantom
        Whether the data are phantoms: every caption says so.
    centre
        The external centre.
    rivals
        Other models' tables by the name to show, one answer a case and label; the same cases or some of them.

    Raises
    ------
    RunError
        The table or the rows lack the chosen model's figures at the centre.

    """
    judged = _judged(rows, table, best, config, phantom=phantom, centre=centre, rivals=rivals)
    title = _TITLES.get(task, task.replace("-", " ").capitalize())
    return {
        "task": task,
        "anchor": f"classifier-{task}",
        "title": title,
        "confidence": f"{config.confidence:.0%}",
        "resamples": f"{config.bootstrap:,}",
        "fewest": FEWEST,
        "centre": centre,
        "phantom": phantom,
        "sentence": _sentence(judged) if judged else _unjudged(centre, table),
        "scores": _scores(judged) if judged else None,
        "ki67": _ki67(judged) if judged else None,
        "figures": _figures(judged, task) if judged else [],
        "operating": _operating(judged) if judged else [],
        "tests": _tests(judged) if judged else None,
        "internal": _internal([row for row in rows if (row.arm, row.model_hash) == (ARM, best)]),
    }


def _judged(
    rows: Sequence[ResultRow],
    table: pd.DataFrame | None,
    best: str,
    config: EvaluationConfig,
    *,
    phantom: bool,
    centre: str | None,
    rivals: Mapping[str, pd.DataFrame],
) -> _Judged | None:
    if table is None or centre is None or table.empty:
        return None
    cases = table[(table["model_hash"] == best) & (table["centre"] == centre)]
    found: dict[str, dict[str, ResultRow]] = {}
    for row in rows:
        foreign = row.arm.split(":")[0] != ARM
        if (row.role, row.centre) == ("external", centre) and (foreign or row.model_hash == best):
            found.setdefault(row.arm, {}).setdefault(row.metric, row)
    if cases.empty or ARM not in found:
        raise RunError(f"no figures of the chosen classifier's cases at '{centre}': was its table made by this run?")
    who: dict[str, Any] = {"task": rows[0].task, "seed": next(iter(found[ARM].values())).seed, "role": "external"}
    others = [other[other["centre"] == centre].assign(arm=name) for name, other in rivals.items()]
    for other in others:
        for row in classification_rows(other, config, thresholds={}, **who):
            found.setdefault(row.arm, {}).setdefault(row.metric, row)
    known = [*_ARMS, *sorted(set(found) - {*_ARMS, ORACLE}), ORACLE]
    ordered = {arm: found[arm] for arm in known if arm in found}
    return _Judged(centre, pd.concat([cases, *others], ignore_index=True), ordered, config, phantom)


def _arm(name: str) -> str:
    return _ARMS.get(name, name.replace(":", ": ")[:1].upper() + name.replace(":", ": ")[1:])


@overload
def _cell(row: ResultRow, why: str = "") -> Cell: ...
@overload
def _cell(row: ResultRow | None, why: str = "") -> Cell | None: ...
def _cell(row: ResultRow | None, why: str = "") -> Cell | None:
    if row is None:
        return None
    digits = 1 if row.unit == "%" else 3
    interval = ""
    if row.ci_low is not None and row.ci_high is not None:
        interval = f"{fixed(row.ci_low, digits)} to {fixed(row.ci_high, digits)}"
    return Cell(row, "undefined" if row.value is None else fixed(row.value, digits), interval, why)


def _unjudged(centre: str | None, table: pd.DataFrame | None) -> str:
    if centre is None or table is None:
        return "No external centre judged it: internal figures flatter."
    return f"No case at {centre} has a label of this task: nothing outside the training sites judged it."


def _sentence(judged: _Judged) -> str:
    """The AUC in both outlines, the way to the oracle, and Ki-67's error against the floor."""
    where = f"On the {judged.subject} of {judged.centre}, which never trained,"
    sentences = [f"{where} only Ki-67 was judged."]
    if judged.heard:
        subject = "the mean AUC over the four subtypes" if judged.heard == ["macro"] else "the AUC"
        text = f"{where} {subject} is {_spoken(judged, ARM, judged.config.confidence)} in the reference outline"
        if END_TO_END in judged.rows:
            predicted = "in the outline that the federated ResU-Net predicted itself"
            sentences = [f"{text}; end to end, {predicted}, it is {_spoken(judged, END_TO_END)}."]
        else:
            sentences = [f"{text}. Nothing was read end to end, in outlines that a network predicted."]
    lacking, leaking = [], False
    for label in judged.heard:
        reached, most = (judged.rows.get(arm, {}).get(f"auc_{label}") for arm in (ARM, ORACLE))
        if reached is not None and most is not None and reached.value is not None and most.value is not None:
            gap = fixed(most.value - reached.value, 3) if most.value > reached.value else "nothing"
            lacking.append(f"{gap}{_of(judged, label)} (oracle {fixed(most.value, 3)})")
            leaking |= reached.ci_low is not None and reached.ci_low > most.value
    if lacking:
        sentences.append(f"Of what is possible on these phantoms the reference outline's AUC lacks {_listed(lacking)}.")
    if leaking:
        sentences.append("More than what is possible is a leak until shown otherwise.")
    error, floor = (judged.rows[ARM].get(name) for name in ("mae_ki67", "mae_ki67_of_mean"))
    if error is not None and floor is not None and error.value is not None:
        sentences.append(
            f"Ki-67 is off by {_measured(error)} percentage points on average, against {fixed(floor.value, 1)} for "
            "always answering these cases' mean."
        )
    return " ".join(sentences)


def _spoken(judged: _Judged, arm: str, confidence: float | None = None) -> str:
    """Each AUC that sums an arm up, with interval and n; the first says how sure its interval is."""
    rows = [(label, judged.rows[arm].get(f"auc_{label}")) for label in judged.heard]
    words = [f"{_measured(row)}{_of(judged, label)}" for label, row in rows if row is not None]
    sure = "" if confidence is None else f"{confidence:.0%} interval "
    return _listed([words[0].replace("(", f"({sure}", 1 if " to " in words[0] else 0), *words[1:]]) if words else DASH


def _measured(row: ResultRow) -> str:
    cell = _cell(row)
    return f"{cell.text} ({f'{cell.interval}, ' if cell.interval else ''}n = {row.n})"


def _of(judged: _Judged, label: str) -> str:
    return "" if len(judged.heard) == 1 else f" for {_LABELS[label]}"


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _scores(judged: _Judged) -> dict[str, Any] | None:
    """AUC by label and arm."""
    lines, notes = [], []
    for label in [*judged.labels, *(["macro"] if "auc_macro" in judged.rows[ARM] else [])]:
        cells = []
        for rows in judged.rows.values():
            row, classic = rows.get(f"auc_{label}"), _cell(rows.get(f"auc_{label}_delong"))
            missing = row is not None and row.value is None
            extra = f"DeLong's interval: {classic.interval}" if classic and classic.interval else ""
            cells.append(_cell(row, judged.why(label) if missing else extra))
            note = f"{_LABELS[label]}, {judged.why(label)}"
            notes += [note] if missing and note not in notes else []
        positives, n = judged.counts(label)
        count = str(judged.rows[ARM][f"auc_{label}"].n) if label == "macro" else f"{positives} / {n}"
        lines.append(
            {
                "label": _LABELS[label],
                "few": judged.few(label),
                "count": count,
                "cells": cells,
                "total": label == "macro",
            }
        )
    columns = [_arm(arm) for arm in judged.rows]
    remarks = [text for arm, text in _REMARKS.items() if arm in judged.rows]
    return {"columns": columns, "lines": lines, "notes": notes, "remarks": remarks} if lines else None


def _ki67(judged: _Judged) -> list[dict[str, Any]]:
    """Error and agreement on Ki-67, a line an arm."""
    return [
        {"arm": _arm(arm), "cells": [_cell(rows.get(name)) for name in _KI67], "n": rows["mae_ki67"].n}
        for arm, rows in judged.rows.items()
        if "mae_ki67" in rows
    ]


def _operating(judged: _Judged) -> list[dict[str, Any]]:
    """Shares at the frozen thresholds, a line a label and outline."""
    return [
        {
            "label": _LABELS[label],
            "few": judged.few(label),
            "arm": _arm(arm),
            "cells": [_cell(judged.rows[arm].get(f"{name}_{label}")) for name in _SHARES],
        }
        for label in judged.labels
        for arm in (ARM, END_TO_END)
        if f"prevalence_{label}" in judged.rows.get(arm, {})
    ]


def _tests(judged: _Judged) -> dict[str, Any] | None:
    """Differences of AUC from the federated model in the reference outline; Holm over all of them."""
    if judged.cases["arm"].nunique() < 2 or not judged.labels:  # noqa: PLR2004 - one arm has no other to differ from
        return None
    seed = next(iter(judged.rows[ARM].values())).seed
    found = compare_arms(judged.cases, ARM, judged.config, seed=seed)
    lines = [
        {
            "arm": _arm(arm),
            "label": _LABELS[item["label"]],
            "few": judged.few(item["label"]),
            "n": item["n"],
            "difference": fixed(item["difference"], 3),
            "interval": DASH if np.isnan(item["low"]) else f"{fixed(item['low'], 3)} to {fixed(item['high'], 3)}",
            "p": _p(item["p"]),
            "p_holm": _p(item["p_holm"]),
        }
        for arm in judged.rows
        for item in found[found["arm"] == arm].to_dict("records")
    ]
    once = judged.cases.drop_duplicates("case")["patient"].is_unique
    method = "DeLong's paired test" if once else "a paired bootstrap of patients, as some have two cases"
    if "auc_macro" in judged.rows[ARM]:
        method += "; of the mean of the four a paired bootstrap without p, as it sums up the tests above it"
    return {"lines": lines, "method": method, "family": int(found["p"].notna().sum())}


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else fixed(value, 3)  # noqa: PLR2004 - the usual last digit


def _figures(judged: _Judged, task: str) -> list[dict[str, Any]]:
    few = {label: " (few)" if judged.few(label) else "" for label in judged.heard}
    return score_figures.figures_of(
        task,
        judged.cases,
        judged.rows,
        labels={name: _LABELS[name] for name in judged.labels if judged.counts(name)[1]},
        heard={label: f"{_LABELS[label]}{few[label]}" for label in judged.heard},
        arms={arm: _arm(arm) for arm in judged.rows},
        where=f"{judged.subject} of {judged.centre}",
        confidence=judged.config.confidence,
    )


def _internal(rows: Sequence[ResultRow]) -> list[dict[str, Any]]:
    """Training sites' figures from their histograms, a table a role."""
    tables = []
    for role, caption in _ROLES.items():
        sites: dict[str, dict[str, ResultRow]] = {}
        for row in rows:
            if row.role == role:
                sites.setdefault(row.centre, {})[row.metric] = row
        named = [(f"auc_{name}", f"{_LABELS[name]}, AUC") for name in (*LABELS, "macro")]
        named.append(("mae_ki67", "Ki-67, mean error, %"))
        columns = {key: text for key, text in named if any(key in found for found in sites.values())}
        if not columns:
            continue
        lines = [
            {"site": site, "cells": [_cell(found.get(key)) for key in columns], "total": site == "all"}
            for site, found in sites.items()
        ]
        tables.append({"caption": caption, "columns": list(columns.values()), "lines": lines})
    return tables
