"""What the sections on a run's course show: its cases, their classes, and how it learnt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from server.reports import metric_text
from server.reports.figures import style
from server.run_folder.finished_run import FinishedTask
from shared.cohort.labels import SUBTYPE_LABELS
from shared.messages.payload import FEW

_SPLITS = ("train", "validation", "test", "external")


def flow(run: FinishedTask) -> dict[str, Any]:
    """Cases of each site: all, taken in by split, left out and why, and their totals."""
    used = [name for name in _SPLITS if any(name in site.included for site in run.flow.values())]
    lines: list[dict[str, Any]] = [
        {
            "site": name,
            "role": f"{site.role}, phantom" if name in run.results.provenance.phantom_sites else site.role,
            "included": [site.included.get(split, 0) for split in used],
            "left_out": sum(site.excluded.values()),
            "cases": sum(site.included.values()) + sum(site.excluded.values()),
            "why": metric_text.reasons(site.excluded) or metric_text.DASH,
        }
        for name, site in run.flow.items()
    ]
    total: dict[str, Any] = {key: sum(line[key] for line in lines) for key in ("left_out", "cases")}
    total["included"] = [sum(counts) for counts in zip(*(line["included"] for line in lines), strict=True)]
    return {"splits": used, "lines": [*lines, {"site": "all", "role": "", "why": "", **total}]}


def classes(runs: Sequence[FinishedTask]) -> dict[str, Any] | None:
    """Cases of each training site by class of each label of the tasks; `None` where no site told any."""
    sites = {name: site.classes for name, site in runs[0].flow.items() if site.classes}
    labels = {label.name: label for run in runs for label in run.task.labels}
    lines = [
        {
            "label": f"{label.title}: {_class_title(name.partition('/')[2])}",
            "counts": ["few" if (count := told.get(name, 0)) == FEW else str(count) for told in sites.values()],
        }
        for label in labels.values()
        for name in label.counted
        if any(told.get(name, 0) for told in sites.values())
    ]
    return {"sites": list(sites), "lines": lines} if lines else None


def _class_title(name: str) -> str:
    return next((label.title for label in SUBTYPE_LABELS if label.name == name), name.replace("_", " "))


def curves(run: FinishedTask) -> list[dict[str, Any]]:
    """Training loss and what chose the round over the rounds, one line per site."""
    task, best = run.task, run.chosen.best_round
    loss, score = [], []
    for name in sorted({name for record in run.rounds for name in record.sites}):
        entries = [(record, record.sites[name]) for record in run.rounds if name in record.sites]
        losses = [(record.round, entry.loss) for record, entry in entries if entry.loss is not None]
        sums = [(record.round, record.sums(name)) for record, _ in entries]
        scores = [(number, figure) for number, kept in sums if (figure := task.choice.of(kept)) is not None]
        cases = max(kept.n for _, kept in sums)
        loss += [style.Curve(name, *zip(*losses, strict=True))] if losses else []
        score += [style.Curve(f"{name} (n = {cases})", *zip(*scores, strict=True))] if scores else []
    merged = [(record.round, record.validation()) for record in run.rounds]
    known = [(number, figure) for number, kept in merged if (figure := task.choice.of(kept)) is not None]
    mean = style.Curve("all cases", *zip(*known, strict=True)) if known else None
    drawn = []
    if loss:
        text = f"mean training loss ({task.learner.loss_title}) of each site's round"
        svg = style.learning_curves(
            loss, label="training loss", name=f"{task.name}-loss", description=text, best_round=best
        )
        drawn.append({"svg": svg, "caption": f"{task.title}: {text}."})
    if score or mean:
        text = f"{task.choice.title} of each round's averaged model on the sites' validation cases"
        svg = style.learning_curves(
            score,
            label=f"validation: {task.choice.title}",
            name=f"{task.name}-validation",
            description=text,
            best_round=best,
            mean=mean,
        )
        how = ": the last round no more than a standard error below the best" if task.choice.within_error else ""
        drawn.append({"svg": svg, "caption": f"{task.title}: {text}; all cases together (black) chose the round{how}."})
    return drawn
