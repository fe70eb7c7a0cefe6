"""The sentence that opens a classifier's section: its AUC in both outlines, its rivals', and what was possible."""

from __future__ import annotations

from server.evaluation.external_classification import ARM, END_TO_END
from server.reports.metric_text import DASH, fixed
from server.reports.sections.classification_data import LABEL_NAMES, ORACLE, Judged, cell, listed
from server.run_folder.results import ResultRow


def sentence(judged: Judged) -> str:
    """The AUC in both outlines and of the rivals, the way to the oracle, and Ki-67's error against the floor."""
    node = " and judged at its own node" if judged.at_node else ""
    where = f"On the {judged.subject} of {judged.centre}, which never trained{node},"
    sentences = _areas(judged, where) if judged.heard else [f"{where} only Ki-67 was judged."]
    error, floor = (judged.rows[ARM].get(name) for name in ("mae_ki67", "mae_ki67_of_mean"))
    if error is not None and error.value is not None:
        # Sums hold no floor.
        against = "" if floor is None else f", against {fixed(floor.value, 1)} for always answering these cases' mean"
        sentences.append(f"Ki-67 is off by {_measured(error)} percentage points on average{against}.")
    return " ".join(sentences)


def _areas(judged: Judged, where: str) -> list[str]:
    own = judged.named(ARM).lower()
    whose = f"the {own}'s" if judged.rivals else "the"
    subject = "mean AUC over the four subtypes" if judged.heard == ["macro"] else "AUC"
    text = f"{where} {whose} {subject} is {_spoken(judged, ARM, judged.config.confidence)} in the reference outline"
    if END_TO_END in judged.rows:
        predicted = "in the outline that the federated ResU-Net predicted itself"
        sentences = [f"{text}; end to end, {predicted}, it is {_spoken(judged, END_TO_END)}."]
    else:
        sentences = [f"{text}. Nothing was read end to end, in outlines that a network predicted."]
    if judged.rivals:
        rivals = listed([f"{judged.named(arm).lower()} {_spoken(judged, arm)}" for arm in judged.rivals])
        sentences.append(f"Its rivals on these cases: {rivals}.")
    lacking, leaking = [], False
    for label in judged.heard:
        reached, most = (judged.rows.get(arm, {}).get(f"auc_{label}") for arm in (ARM, ORACLE))
        if reached is not None and most is not None and reached.value is not None and most.value is not None:
            gap = fixed(most.value - reached.value, 3) if most.value > reached.value else "nothing"
            lacking.append(f"{gap}{_of(judged, label)} (oracle {fixed(most.value, 3)})")
            leaking |= reached.ci_low is not None and reached.ci_low > most.value
    if lacking:
        sentences.append(f"Of what is possible on these phantoms the {own}'s AUC lacks {listed(lacking)}.")
    if leaking:
        sentences.append("More than what is possible is a leak until shown otherwise.")
    return sentences


def _spoken(judged: Judged, arm: str, confidence: float | None = None) -> str:
    """Each AUC that sums an arm up, with interval and n; the first says how sure its interval is."""
    rows = [(label, judged.rows[arm].get(f"auc_{label}")) for label in judged.heard]
    words = [f"{_measured(row)}{_of(judged, label)}" for label, row in rows if row is not None]
    sure = "" if confidence is None else f"{confidence:.0%} interval "
    return listed([words[0].replace("(", f"({sure}", 1 if " to " in words[0] else 0), *words[1:]]) if words else DASH


def _measured(row: ResultRow) -> str:
    shown = cell(row)
    return f"{shown.text} ({f'{shown.interval}, ' if shown.interval else ''}n = {row.n})"


def _of(judged: Judged, label: str) -> str:
    return "" if len(judged.heard) == 1 else f" for {LABEL_NAMES[label]}"
