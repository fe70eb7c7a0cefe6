"""Every figure of a study's summary beside each seed's own, and what made the study."""

from __future__ import annotations

from typing import Any

from server.reports import metric_text
from server.reports.study.checklists import Item, answered_counts, claim_items, tripod_items
from server.reports.study.metric_lookup import TASK_NAMES, Summary, arm_name, axis_name, rounded
from server.reports.study.study_reader import Study

_SHORT = 12
_GUIDELINES = (("CLAIM 2024", claim_items), ("TRIPOD+AI", tripod_items))


def every_figure(study: Study, task: str) -> dict[str, Any]:
    """A line a summary row; a seed's several models at one centre stand side by side, parted by a slash."""
    table = study.tables.results
    table = table[table["task"] == task]
    by_seed: dict[tuple[Any, ...], list[Any]] = {}
    keys = zip(table["arm"], table["centre"], table["role"], table["metric"], table["seed"], strict=True)
    for key, value in zip(keys, table["value"], strict=True):
        by_seed.setdefault(key, []).append(value)
    seeds, summary, lines = study.config.study.seeds, Summary(study, task), []
    order = {arm: place for place, arm in enumerate(summary.arms)}
    for item in sorted(summary.all(), key=lambda item: (order[item.row.arm], item.row.role, item.row.centre != "all")):
        row = item.row
        own = [by_seed.get((row.arm, row.centre, row.role, row.metric, seed), []) for seed in seeds]
        lines.append(
            {
                "arm": arm_name(row.arm),
                "centre": "all held out" if row.centre == "all" else row.centre,
                "role": row.role,
                "metric": axis_name(row.metric, row.unit),
                "cell": item,
                "seeds": [
                    " / ".join(rounded(value, row.unit) for value in values) or metric_text.DASH for values in own
                ],
            }
        )
    return {"title": TASK_NAMES.get(task, task), "seeds": seeds, "lines": lines}


def checklists(anchors: set[str]) -> list[dict[str, Any]]:
    """Each guideline's items with links to the sections of this page that answer them."""
    return [{"name": name, **_checklist(items(), anchors)} for name, items in _GUIDELINES]


def _checklist(items: tuple[Item, ...], anchors: set[str]) -> dict[str, Any]:
    counts = answered_counts(items)
    return {
        "counts": counts,
        "total": len(items),
        "lines": [
            {
                "item": item,
                "links": [name for name in item.anchors if name in anchors],
                "text": item.where if item.answered == "authors" else item.where.partition(":")[2].strip(),
            }
            for item in items
        ],
    }


def provenance(study: Study) -> list[tuple[str, str]]:
    """What made the study, in lines."""
    made = study.provenance
    minutes, seconds = divmod(round(made.seconds), 60)
    return [
        ("study", made.name),
        ("finished", made.created.isoformat()),
        ("tasks", ", ".join(study.tasks)),
        ("data", "phantoms (generated)" if made.phantom else "site folders"),
        ("code", made.git or "unknown commit"),
        ("training seeds", ", ".join(map(str, study.config.study.seeds))),
        ("training, all models", f"{minutes} min {seconds} s"),
        (
            "machine",
            ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in made.machine.items()) or "unknown",
        ),
        ("versions", ", ".join(f"{name} {value}" for name, value in made.versions.items())),
        *((f"data of {name}, SHA-256", text) for name, text in made.data.items()),
        *((f"plan without {name}", text) for name, text in made.plans.items()),
    ]


def opened(study: Study) -> list[dict[str, Any]]:
    """When each held-out centre was read, and how many models were frozen by then."""
    return [
        {
            "centre": name,
            "at": f"{study.opened[name].at:%Y-%m-%d %H:%M:%S} UTC" if name in study.opened else "not opened",
            "models": len(study.opened[name].models) if name in study.opened else 0,
        }
        for name in study.held_out
    ]


def models(study: Study) -> list[dict[str, Any]]:
    """Every trained model."""
    return [
        {
            "task": cell.task,
            "held_out": cell.held_out,
            "arm": arm_name(cell.arm),
            "seed": cell.seed,
            "round": f"{cell.best_round} of {cell.rounds}",
            "seconds": f"{cell.seconds:,.0f}",
            "hash": cell.model_hash[:_SHORT],
            "whole": cell.model_hash,
        }
        for cell in study.cells
    ]


def limits(study: Study) -> list[str]:
    """What the study cannot show."""
    folds = len(study.held_out)
    centres = "1 centre" if folds == 1 else f"{folds} centres"
    few = (
        f"{centres}: intervals are about these; the prediction interval, wide with so few, is about the next one.",
        "Folds share training data: random-effects intervals take them as independent and may be too narrow.",
    )
    lines = ["It is not a medical device and no evidence for clinical use."]
    if study.phantom:
        lines.append(
            "Phantoms follow equations: they can show that the software works, not how it would do in patients."
        )
    if study.config.data.phantom is not None:
        lines.append(
            f"How far the phantom centres differ (shift {study.config.data.phantom.shift:g}) was chosen by us; whether "
            "federation helps depends on it."
        )
    return [
        *lines,
        *few,
        "Intervals reflect which patients were drawn. Seeds are averaged, not counted as patients.",
        "Subgroups are exploratory: no hypothesis was fixed for them beforehand.",
        "The reference is one outline a case: disagreement between readers is not in these figures.",
        "Every case here holds a lesion by design unless stated: no false-alarm rate in healthy breasts follows.",
        *(
            ["The pooled arm needs all images in one place; it is a yardstick, not a plan."]
            if "pooled" in study.config.study.arms
            else []
        ),
    ]
