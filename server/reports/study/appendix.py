"""Every figure of a study's summary beside each seed's own, and what made the study."""

from __future__ import annotations

from typing import Any

from server.reports import metric_text
from server.reports.study.metric_lookup import ALL, Summary, arm_name, axis_name, lines_of, place_name, rounded
from server.run_folder.arms import POOLED
from server.run_folder.finished_study import FinishedStudy, counted
from shared.tasks.task import Task

_SHORT = 12


def every_figure(study: FinishedStudy, task: Task) -> dict[str, Any]:
    """A line for each row of the summary; a seed's several models at one centre are parted by a slash."""
    by_seed: dict[tuple[Any, ...], list[Any]] = {}
    for line in lines_of(study.tables.results, task):
        key = tuple(line[name] for name in ("arm", "centre", "role", "metric", "seed"))
        by_seed.setdefault(key, []).append(line["value"])
    seeds, summary, lines = study.config.study.seeds, Summary(study, task), []
    order = {arm: place for place, arm in enumerate(summary.arms)}
    for row in sorted(summary.rows, key=lambda row: (order[row.arm], row.role, row.centre != ALL)):
        own = [by_seed.get((row.arm, row.centre, row.role, row.metric.name, seed), []) for seed in seeds]
        lines.append(
            {
                "arm": arm_name(row.arm),
                "centre": place_name(row.centre),
                "role": row.role,
                "metric": axis_name(row.metric),
                "cell": row,
                "seeds": [
                    " / ".join(rounded(value, row.unit) for value in values) or metric_text.DASH for values in own
                ],
            }
        )
    return {"title": task.title, "seeds": seeds, "lines": lines}


def provenance(study: FinishedStudy) -> list[tuple[str, str]]:
    """What made the study, in lines."""
    made = study.provenance
    minutes, seconds = divmod(round(made.seconds), 60)
    return [
        ("study", made.name),
        ("finished", made.created.isoformat()),
        ("tasks", ", ".join(study.config.tasks)),
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


def openings(study: FinishedStudy) -> list[dict[str, Any]]:
    """When each held-out centre was read, and how many models were frozen by then."""
    return [
        {
            "centre": name,
            "at": f"{study.openings[name].at:%Y-%m-%d %H:%M:%S} UTC" if name in study.openings else "not opened",
            "models": len(study.openings[name].models) if name in study.openings else 0,
        }
        for name in study.held_out
    ]


def models(study: FinishedStudy) -> list[dict[str, Any]]:
    """Every trained model."""
    return [
        {
            "task": model.task,
            "held_out": model.held_out,
            "arm": arm_name(model.arm),
            "seed": model.seed,
            "round": f"{model.best_round} of {model.rounds}",
            "seconds": f"{model.seconds:,.0f}",
            "hash": model.model_hash[:_SHORT],
            "whole": model.model_hash,
        }
        for model in study.models
    ]


def limits(study: FinishedStudy) -> list[str]:
    """What the study cannot show."""
    centres = counted(len(study.held_out), "centre")
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
        "The reference is one outline for each case: disagreement between readers is not in these figures.",
        "Every case here holds a lesion by design unless stated: no false-alarm rate in healthy breasts follows.",
        *(
            ["The pooled arm needs all images in one place; it is a yardstick, not a plan."]
            if POOLED in study.config.study.arms
            else []
        ),
    ]
