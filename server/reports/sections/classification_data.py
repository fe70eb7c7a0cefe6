"""What a classifier's section is drawn from: the chosen model's external cases and rows, and its rivals'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import overload

import pandas as pd

from server.evaluation.external_classification import ARM, END_TO_END
from server.reports.metric_text import fixed
from server.run_folder.results import ResultRow
from shared.config.sections import EvaluationConfig
from shared.errors import RunError
from shared.metrics.score_sums import LABELS, SUBTYPES
from shared.models.ensemble_resnet import BRANCHES

ORACLE = "oracle"
FEWEST = 10  # cases of either class from which a figure is ranked
OUTLINES = {ARM: "Reference outline", END_TO_END: "End to end"}
ALONE = {f"{ARM}:{name}": f"{name.capitalize()} alone" for name in BRANCHES}
LABEL_NAMES = {
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
_AMONG_RIVALS = {ARM: "Ensemble", END_TO_END: "Ensemble, end to end"}


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure of a table as shown; `row` is where it comes from, `why` explains a missing value or adds to it."""

    row: ResultRow
    text: str
    interval: str
    why: str = ""


@overload
def cell(row: ResultRow, why: str = "") -> Cell: ...
@overload
def cell(row: ResultRow | None, why: str = "") -> Cell | None: ...
def cell(row: ResultRow | None, why: str = "") -> Cell | None:
    """A row as a table shows it; nothing where there is none."""
    if row is None:
        return None
    digits = 1 if row.unit == "%" else 3
    interval = ""
    if row.ci_low is not None and row.ci_high is not None:
        interval = f"{fixed(row.ci_low, digits)} to {fixed(row.ci_high, digits)}"
    return Cell(row, "undefined" if row.value is None else fixed(row.value, digits), interval, why)


@dataclass(frozen=True, slots=True)
class Judged:
    """The chosen model at the external centre: cases of all arms, rows by arm and metric.

    Attributes
    ----------
    cases
        Long table of every arm, one model each.
    rows
        In the order to show: the reference outline, its other readings, rivals, the oracle.
    rivals
        Arms of other models.
    phantom
        Whether the data are phantoms.
    at_node
        Whether the centre judged at a node of its own: there are rows of the reference outline, and no cases.

    """

    centre: str
    cases: pd.DataFrame
    rows: Mapping[str, Mapping[str, ResultRow]]
    rivals: tuple[str, ...]
    config: EvaluationConfig
    phantom: bool
    at_node: bool = False

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
        """What was judged."""
        return "phantom cases" if self.phantom else "cases"

    def named(self, arm: str) -> str:
        """An arm as shown: the model's own readings by their outline, among rivals by the model."""
        known = OUTLINES | ALONE | (_AMONG_RIVALS if self.rivals else {})
        spaced = arm.replace(":", ": ")
        return known.get(arm, f"{spaced[:1].upper()}{spaced[1:]}")

    def judged_by(self, arm: str) -> set[str]:
        """Cases with a binary label that an arm answered."""
        return set(self.cases.loc[(self.cases["arm"] == arm) & self.cases["label"].isin(LABELS), "case"])

    def counts(self, label: str) -> tuple[int, int]:
        """Positive cases and all cases with the label."""
        part = self.cases[(self.cases["arm"] == ARM) & (self.cases["label"] == label)]
        return int(part["truth"].sum()), len(part)

    def few(self, label: str) -> bool:
        """Whether a class has too few cases for the label's figures to be ranked."""
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


def judge(
    rows: Sequence[ResultRow],
    table: pd.DataFrame | None,
    best: str,
    config: EvaluationConfig,
    *,
    phantom: bool,
    centre: str | None,
    rivals: Mapping[str, pd.DataFrame],
) -> Judged | None:
    """Gather what the external centre has of the chosen model; parameters and errors as `classifier_section`."""
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
    if lacking := [arm for arm in rivals if arm not in found]:
        raise RunError(f"no figures of {', '.join(lacking)} at '{centre}', though there is a table of its cases")
    others = [other[other["centre"] == centre].assign(arm=arm) for arm, other in rivals.items()]
    known = [*OUTLINES, *ALONE, *rivals, *sorted(set(found) - {*OUTLINES, *ALONE, *rivals, ORACLE}), ORACLE]
    ordered = {arm: found[arm] for arm in known if arm in found}
    return Judged(centre, pd.concat([cases, *others], ignore_index=True), ordered, tuple(rivals), config, phantom)


def judge_at_node(
    rows: Sequence[ResultRow], best: str, config: EvaluationConfig, *, phantom: bool, centre: str | None
) -> Judged | None:
    """Gather what the external centre's node sent of the chosen model; `None` where no case had a label."""
    own = {
        row.metric: row
        for row in rows
        if (row.arm, row.role, row.centre, row.model_hash) == (ARM, "external", centre, best)
    }
    if centre is None or not own:
        return None
    return Judged(centre, pd.DataFrame(), {ARM: own}, (), config, phantom, at_node=True)


def listed(words: Sequence[str]) -> str:
    """Words with commas and an `and`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
