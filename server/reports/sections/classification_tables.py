"""The AUCs of a classifier's section: every arm by label, and the tests of the others against the first."""

from __future__ import annotations

from typing import Any

import numpy as np

from server.evaluation.arm_comparison import compare_arms
from server.evaluation.external_classification import ARM, END_TO_END
from server.evaluation.late_fusion import FUSION
from server.reports.metric_text import DASH, fixed
from server.reports.sections.classification_data import LABEL_NAMES, ORACLE, Judged, cell, listed

RADIOMICS = "radiomics"

_REMARKS = {
    END_TO_END: "End to end: in the outline that the federated ResU-Net predicted; without one a case gets the others' "
    "mean scores.",
    f"{ARM}:volume": "Alone: one branch of the ensemble (axial, coronal, sagittal: 2D; volume: 3D), in the reference "
    "outline.",
    RADIOMICS: "Radiomics: a linear model on the same lesions' radiomic features, trained in the same federation.",
    FUSION: "Fusion: mean of the ensemble's and radiomics' log-probabilities, no weight fitted.",
    ORACLE: "Oracle: the best of what is possible on these phantoms, from many more simulated cases than these.",
}


def auc_table(judged: Judged) -> dict[str, Any] | None:
    """A line an arm, a column a label; `None` where there is no binary label."""
    labels = [*judged.labels, *(["macro"] if "auc_macro" in judged.rows[ARM] else [])]
    if not labels:
        return None
    columns = [
        {
            "label": LABEL_NAMES[label],
            "few": judged.few(label),
            "count": "" if label == "macro" else "{} of {}".format(*judged.counts(label)),
        }
        for label in labels
    ]
    lines, notes = [], []
    for arm, rows in judged.rows.items():
        cells = []
        for label in labels:
            row, classic = rows.get(f"auc_{label}"), cell(rows.get(f"auc_{label}_delong"))
            missing = row is not None and row.value is None
            extra = f"DeLong's interval: {classic.interval}" if classic and classic.interval else ""
            cells.append(cell(row, judged.why(label) if missing else extra))
            note = f"{LABEL_NAMES[label]}, {judged.why(label)}"
            notes += [note] if missing and note not in notes else []
        lines.append({"arm": judged.named(arm), "cells": cells, "n": len(judged.judged_by(arm)) or DASH})
    remarks = [text for arm, text in _REMARKS.items() if arm in judged.rows]
    return {"columns": columns, "lines": lines, "notes": notes, "remarks": remarks}


def differences(judged: Judged) -> dict[str, Any] | None:
    """Differences of AUC from the federated model in the reference outline, a line an arm; Holm over all of them."""
    if judged.cases["arm"].nunique() < 2 or not judged.labels:  # noqa: PLR2004 - one arm has no other to differ from
        return None
    seed = next(iter(judged.rows[ARM].values())).seed
    found = compare_arms(judged.cases, ARM, judged.config, seed=seed)
    tests = {(item["arm"], item["label"]): item for item in found.to_dict("records")}
    labels = [label for label in (*judged.labels, "macro") if label in set(found["label"])]
    lines = []
    for arm in judged.rows:
        own = [tests.get((arm, label)) for label in labels]
        if numbers := {item["n"] for item in own if item}:
            n = str(max(numbers)) if len(numbers) == 1 else f"{min(numbers)} to {max(numbers)}"
            lines.append({"arm": judged.named(arm), "cells": [_tested(item) for item in own], "n": n})
    once = judged.cases.drop_duplicates("case")["patient"].is_unique
    method = "DeLong's paired test" if once else "a paired bootstrap of patients, as some have two cases"
    if "macro" in labels:
        method += "; of the mean of the four a paired bootstrap without p, as it sums up the tests beside it"
    return {
        "than": "the ensemble" if judged.rivals else "the reference outline",
        "columns": [{"label": LABEL_NAMES[label], "few": judged.few(label)} for label in labels],
        "lines": lines,
        "method": method,
        "family": int(found["p"].notna().sum()),
        "left_out": _left_out(judged),
    }


def _tested(item: dict[Any, Any] | None) -> dict[str, str] | None:
    if item is None:
        return None
    return {
        "difference": fixed(item["difference"], 3),
        "interval": "" if np.isnan(item["low"]) else f"{fixed(item['low'], 3)} to {fixed(item['high'], 3)}",
        "p": "" if np.isnan(item["p"]) else f"p {_p(item['p'])}, Holm {_p(item['p_holm'])}",
    }


def _left_out(judged: Judged) -> str:
    """Cases that only one of two arms judged, by rival; empty where there is no rival."""
    own = judged.judged_by(ARM)
    apart = {arm: len(own ^ judged.judged_by(arm)) for arm in judged.rivals}
    if not apart:
        return ""
    if not any(apart.values()):
        return "All judged the same cases."
    counts = listed([f"{n} with {judged.named(arm).lower()}" for arm, n in apart.items() if n])
    return f"Left out, as only one of the two judged them: {counts}."


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else fixed(value, 3)  # noqa: PLR2004 - the usual last digit
