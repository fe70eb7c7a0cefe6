"""The statistics' tables of an invented study, by plain formulas: their form is what counts here, not their method."""

import math
from itertools import product

import numpy as np

from server.run_folder.study_tables import COMPARISONS, META, RESULTS, SUBGROUPS, SUMMARY, StudyTables, typed

CENTRES = ("centre-a", "centre-b", "centre-c", "centre-d")
SEEDS = (0, 1)
COLUMNS = {
    "dice": ("dice", "1"),
    "nsd": ("nsd", "1"),
    "hd95": ("hd95_mm", "mm"),
    "centroid_distance": ("centroid_distance_mm", "mm"),
    "sensitivity": ("sensitivity", "1"),
}
NORMAL = 1.96


def tables(predictions, cohort):
    """The five tables."""
    summary = typed([row for task, table in predictions.items() for row in summarised(task, table)], SUMMARY)
    results = [
        {name: row[name] for name in ("task", "arm", "centre", "role", "metric", "unit", "n", "ci_low", "ci_high")}
        | {"seed": seed, "value": row["value"] + 0.004 * (seed - 0.5), "model_hash": ""}
        for row in summary[summary["arm"] != "local"].to_dict("records")
        for seed in SEEDS
    ]
    comparisons = typed([row for task in predictions for row in compared(task, summary)], COMPARISONS)
    meta = [row for task in predictions for row in pooled(task, summary, comparisons)]
    subgroups = [row for task, table in predictions.items() for row in grouped(task, table, cohort)]
    return StudyTables(typed(results, RESULTS), summary, comparisons, typed(meta, META), typed(subgroups, SUBGROUPS))


def figures(task, cases):
    """Metric, unit, value, half width of the interval."""
    root = math.sqrt(max(len(cases), 1))
    if task == "lesion-segmentation":
        for metric, (column, unit) in COLUMNS.items():
            yield metric, unit, cases[column].mean(), NORMAL * cases[column].std() / root
        yield "lesion_f1", "1", 0.81, 0.06
        yield "volume_icc_a1", "1", 0.88, 0.05
        ratio = np.log(cases["volume_ml"] / cases["reference_volume_ml"])
        yield "volume_bias", "ml", float((cases["volume_ml"] - cases["reference_volume_ml"]).mean()), 0.1
        yield "volume_limit_low", "ml", -float(ratio.std()) * 3, 0.2
        yield "volume_limit_high", "ml", float(ratio.std()) * 3, 0.2
        return
    for label in (name.removeprefix("truth_") for name in cases if name.startswith("truth_")):
        truth, score = cases[f"truth_{label}"], cases[f"score_{label}"]
        gap = score[truth == 1].mean() - score[truth == 0].mean()
        for name, value, half in (
            ("auc", 0.5 + gap / 1.3, 1 / root), ("brier", 0.18, 0.04), ("ece", 0.09, math.nan),
            ("calibration_slope", 1.1, math.nan), ("calibration_intercept", -0.05, math.nan),
            ("sensitivity", 0.8, 0.1), ("specificity", 0.7, 0.1), ("ppv", 0.6, 0.1), ("npv", 0.9, 0.1),
            ("prevalence", truth.mean(), math.nan),
        ):  # fmt: skip
            yield f"{name}_{label}", "1", value, half


def thin(task, cases):
    return task != "lesion-segmentation" and (cases["centre"] == "centre-d").all()


def summarised(task, table):
    for (arm, role), cases in table.assign(arm=table["arm"]).groupby(["arm", "role"]):
        places = [*((name, cases[cases["centre"] == name]) for name in sorted(set(cases["centre"]))), ("all", cases)]
        yield from (row for name, part in places for row in rows(task, arm, name, role, part))
    local = table[table["arm"].str.startswith("local:") & (table["role"] == "external")]
    for name in (*CENTRES, "all"):
        yield from rows(task, "local", name, "external", local if name == "all" else local[local["centre"] == name])


def rows(task, arm, centre, role, cases):
    few = thin(task, cases)
    for metric, unit, value, half in figures(task, cases):
        yield {
            "task": task, "arm": arm, "centre": centre, "role": role, "metric": metric, "unit": unit, "value": value,
            "ci_low": value - half, "ci_high": value + half, "n": cases["case"].nunique(),
            "patients": cases["patient"].nunique(), "seeds": len(SEEDS), "ranked": not few,
            "note": "fewer than 10 of a class" if few else "",
        }  # fmt: skip


def compared(task, summary):
    chosen = summary[(summary["task"] == task) & (summary["role"] == "external")]
    metrics = [name for name in ("dice", "hd95", "auc_er", "auc_her2") if name in set(chosen["metric"])]
    places = chosen.set_index(["metric", "centre", "arm"])
    rivals = [name for name in ("local", "pooled", "ensemble") if name in set(chosen["arm"])]
    for metric, centre, arm in product(metrics, (*CENTRES, "all"), rivals):
        own, other = places.loc[(metric, centre, "federated")], places.loc[(metric, centre, arm)]
        gap, half = own["value"] - other["value"], (own["ci_high"] - own["ci_low"]) / 3
        primary = metric == metrics[0] and centre == "all"
        yield {
            "task": task, "metric": metric, "centre": centre, "arm": arm, "difference": gap, "ci_low": gap - half,
            "ci_high": gap + half, "n": own["n"], "p": 0.004, "p_holm": 0.012 if primary else math.nan,
            "primary": primary,
        }  # fmt: skip


def pooled(task, summary, comparisons):
    external = summary[(summary["task"] == task) & (summary["role"] == "external") & (summary["centre"] != "all")]
    for (arm, metric), part in external.groupby(["arm", "metric"]):
        if arm in {"federated", "pooled", "ensemble", "local"}:
            yield combined(task, arm, metric, part["unit"].iloc[0], part["value"])
    gaps = comparisons[(comparisons["task"] == task) & (comparisons["centre"] != "all")]
    for (arm, metric), part in gaps.groupby(["arm", "metric"]):
        yield combined(task, f"federated-{arm}", metric, "mm" if metric == "hd95" else "1", part["difference"])


def combined(task, quantity, metric, unit, values):
    half = NORMAL * values.std() / 2 + 1e-3
    middle = values.mean()
    return {
        "task": task, "quantity": quantity, "metric": metric, "unit": unit, "k": len(values), "estimate": middle,
        "ci_low": middle - half, "ci_high": middle + half, "pi_low": middle - 3 * half, "pi_high": middle + 3 * half,
        "tau2": values.var() / 2, "i2": 34.5, "q": 4.6, "q_p": 0.2,
    }  # fmt: skip


def grouped(task, table, cohort):
    metric = next(iter(figures(task, table)))[0]
    known = cohort.set_index("case")
    federated = table[(table["arm"] == "federated") & (table["role"] == "external")]
    local = table[table["arm"].str.startswith("local:") & (table["role"] == "external")]
    for factor in ("manufacturer", "field_strength_t", "density", "age_band"):
        for level in sorted(set(known[factor]) - {""}, key=str):
            for arm, cases in (("federated", federated), ("local", local)):
                part = cases[cases["case"].map(known[factor]) == level]
                value, half = {row[0]: row[2:] for row in figures(task, part)}[metric]
                n = part["case"].nunique()
                row = {
                    "task": task, "metric": metric, "arm": arm, "factor": factor, "level": str(level), "value": value,
                    "ci_low": value - half, "ci_high": value + half, "n": n, "patients": part["patient"].nunique(),
                    "ranked": n > 14,
                }  # fmt: skip
                if arm == "federated":
                    row |= {
                        "difference": 0.08, "difference_low": 0.02, "difference_high": 0.14, "p": 0.01, "p_bh": 0.03,
                    }  # fmt: skip
                yield row
