"""Figures of a study by name: rows of the statistics' tables as the page shows them, and the words for arms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from server.reports import metric_text
from server.reports.figures.style import SITES
from server.reports.sections.classification_data import LABEL_NAMES
from server.reports.study.study_reader import Study
from server.run_folder.results import ResultRow, Role

ARMS = ("federated", "pooled", "ensemble", "local")
RIVALS = ("local", "pooled", "ensemble")
ARM_NAMES = {
    "federated": "Federated",
    "pooled": "Pooled",
    "ensemble": "Ensemble",
    "local": "Local (mean)",
}
COLOURS = {"federated": SITES[0], "pooled": SITES[5]}
MARKERS = {"federated": "s", "pooled": "o"}
TASK_NAMES = {
    "lesion-segmentation": "Lesion outlines",
    "breast-segmentation": "Breast and fibroglandular tissue",
    "subtype-ensemble": "Molecular subtype",
    "subtype-radiomics": "Molecular subtype by radiomics",
    "receptor-status": "Receptor status",
    "receptor-ki67-multitask": "Receptors and Ki-67",
    "lesion-malignancy": "Malignancy",
}
SMALLER_IS_BETTER = ("hd95", "assd", "centroid_distance", "mae_", "brier", "ece", "failures", "log_loss")
_PER_LABEL = {
    "auc": "AUC",
    "brier": "Brier score",
    "calibration_slope": "Calibration slope",
    "calibration_intercept": "Calibration intercept",
    "ece": "ECE",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "ppv": "PPV",
    "npv": "NPV",
    "prevalence": "Prevalence",
    "log_loss": "Log loss",
}
_MACRO = "mean of the four"
_OUTLINED = {
    "lesion-segmentation": ("dice", "nsd", "hd95", "lesion_f1", "volume_icc_a1", "centroid_distance"),
    "breast-segmentation": ("dice_fibroglandular", "dice_breast", "mae_density", "icc_a1_density"),
}


@dataclass(frozen=True, slots=True)
class Shown:
    """A row of `summary`: the figure as other pages' filters take it, and on whom and how often it was measured."""

    row: ResultRow
    patients: int
    seeds: int
    ranked: bool
    note: str

    @property
    def text(self) -> str:
        """Value and interval on one line."""
        return with_interval(self.row.value, self.row.ci_low, self.row.ci_high, self.row.unit)


def shown(line: dict[str, Any]) -> Shown:
    """A row of `summary` as it is shown."""
    row = ResultRow(
        **{name: line[name] for name in ("task", "arm", "centre", "role", "metric", "unit")},
        **{name: number(line[name]) for name in ("value", "ci_low", "ci_high")},
        n=int(line["n"]),
        seed=0,
        model_hash="",
    )
    note = line["note"]
    return Shown(row, int(line["patients"]), int(line["seeds"]), bool(line["ranked"]), "" if pd.isna(note) else note)


def number(value: Any) -> float | None:
    """A table's number; nothing where the cell is empty."""
    return None if pd.isna(value) else float(value)


class Summary:
    """`summary` of one task, by arm, centre, role and metric."""

    def __init__(self, study: Study, task: str) -> None:
        table = study.tables.summary
        lines = [shown(line) for line in table[table["task"] == task].to_dict("records")]  # type: ignore[arg-type]
        self._by = {(item.row.arm, item.row.centre, item.row.role, item.row.metric): item for item in lines}

    def get(self, arm: str, centre: str, metric: str, role: Role = "external") -> Shown | None:
        """One figure; `centre` is `all` for every held-out centre together."""
        return self._by.get((arm, centre, role, metric))

    def all(self) -> list[Shown]:
        """Every figure, in the table's order."""
        return list(self._by.values())

    def has(self, metric: str) -> bool:
        """Whether the federated arm has the figure at held-out centres."""
        return any(key[0] == "federated" and key[2:] == ("external", metric) for key in self._by)

    @property
    def metrics(self) -> list[str]:
        """Metrics of the federated arm at held-out centres."""
        return list(dict.fromkeys(key[3] for key in self._by if key[0] == "federated" and key[2] == "external"))

    @property
    def arms(self) -> list[str]:
        """Arms in the order to show: the four kinds, then every local model's own."""
        known = dict.fromkeys(key[0] for key in self._by)
        return [arm for arm in ARMS if arm in known] + sorted(arm for arm in known if arm.startswith("local:"))


def headline(study: Study, task: str) -> str:
    """The metric that answers the question: the primary one of `comparisons`, else the first that is plotted."""
    table = study.tables.comparisons
    primary = table[(table["task"] == task) & table["primary"].astype(bool)]
    if len(primary):
        return str(primary["metric"].iloc[0])
    return plotted(Summary(study, task), task)[0]


def plotted(summary: Summary, task: str) -> list[str]:
    """Metrics that have a forest plot."""
    if task in _OUTLINED:
        return [name for name in _OUTLINED[task] if summary.has(name)]
    found = [name for name in summary.metrics if name.startswith("auc_") and not name.endswith("_delong")]
    found.sort(key=lambda name: name != "auc_macro")
    return [*found, *(name for name in ("mae_ki67",) if summary.has(name))]


def metric_name(metric: str) -> str:
    """A metric as the literature writes it, with its label."""
    for prefix, name in _PER_LABEL.items():
        label = metric.removeprefix(f"{prefix}_")
        if label != metric and label in LABEL_NAMES:
            return f"{name}, {_MACRO if label == 'macro' else LABEL_NAMES[label]}"
    known = {"mae_ki67": "Mean absolute error of Ki-67", "bias_ki67": "Bias of Ki-67"}
    return known.get(metric) or metric_text.label(_bare(metric, "1"))


def axis_name(metric: str, unit: str) -> str:
    """Name with its unit, for axes and columns."""
    return metric_name(metric) + ("" if unit == "1" else f", {unit}")


def arm_name(arm: str) -> str:
    """An arm in words."""
    return ARM_NAMES.get(arm) or arm.replace("local:", "Local: ")


def rounded(value: Any, unit: str) -> str:
    """A number rounded for its unit; a dash for none."""
    return metric_text.value(_bare("", unit, number(value)))


def between(low: Any, high: Any, unit: str) -> str:
    """An interval rounded for its unit; a dash for none."""
    first, last = number(low), number(high)
    return metric_text.DASH if first is None or last is None else f"{rounded(first, unit)} to {rounded(last, unit)}"


def with_interval(value: Any, low: Any, high: Any, unit: str) -> str:
    """A number and its interval on one line; the number alone where it has none."""
    bounds = between(low, high, unit)
    return rounded(value, unit) + ("" if bounds == metric_text.DASH else f" ({bounds})")


def p_value(value: Any) -> str:
    """A p value; a dash for none."""
    found = number(value)
    if found is None:
        return metric_text.DASH
    return "<0.001" if found < 0.001 else metric_text.fixed(found, 3)  # noqa: PLR2004 - the usual last digit


def better(metric: str) -> str:
    """On which side of zero federated minus another arm is good."""
    return "left" if metric.startswith(SMALLER_IS_BETTER) else "right"


def _bare(metric: str, unit: str, value: float | None = None) -> ResultRow:
    return ResultRow(task="", arm="", seed=0, centre="", role="external", metric=metric, unit=unit, value=value,
                     ci_low=None, ci_high=None, n=0, model_hash="")  # fmt: skip


def drawn_arms(study: Study) -> list[str]:
    """Arms that have one model, or one prediction, a fold and seed."""
    return ["federated", *(arm for arm in ("pooled", "ensemble") if arm in study.config.study.arms)]


def seed_rows(study: Study, task: str, arm: str, seed: int) -> dict[str, ResultRow]:
    """One seed's figures of an arm at all held-out centres together, by metric."""
    table = study.tables.results
    chosen = table[
        (table["task"] == task) & (table["arm"] == arm) & (table["seed"] == seed) & (table["centre"] == "all")
        & (table["role"] == "external")
    ]  # fmt: skip
    lines = chosen.astype(object).where(chosen.notna(), None).to_dict("records")
    return {row.metric: row for row in map(ResultRow.model_validate, lines)}
