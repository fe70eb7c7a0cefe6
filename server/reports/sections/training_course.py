"""What the sections on a run's course show: its cases, their classes, how it learnt, and who took part."""

from __future__ import annotations

from typing import Any

from server.reports import metric_text
from server.reports.figures import style
from server.run_folder.finished_run import RunFolder
from shared.config.sections import SEGMENTATIONS
from shared.messages.payload import CLASS_NAMES, FEW, Sums
from shared.metrics.score_sums import ClassificationSums

_SCORES = {"lesion-segmentation": "Dice", "breast-segmentation": "Mean of breast and fibroglandular Dice"}
_SPLITS = ("train", "validation", "test", "external")


def flow(run: RunFolder) -> dict[str, Any]:
    """Cases of each site: found, taken in by split, left out and why, and their totals."""
    used = [name for name in _SPLITS if any(name in site.included for site in run.flow.values())]
    lines: list[dict[str, Any]] = []
    for name, site in run.flow.items():
        reasons = sorted(site.excluded.items(), key=lambda item: (-item[1], item[0]))
        lines.append(
            {
                "site": name,
                "role": site.role,
                "included": [site.included.get(split, 0) for split in used],
                "left_out": sum(site.excluded.values()),
                "found": sum(site.included.values()) + sum(site.excluded.values()),
                "why": ", ".join(f"{reason.replace('_', ' ')} ({count})" for reason, count in reasons)
                or metric_text.DASH,
                "total": False,
            }
        )
    total = {
        "site": "all",
        "role": "",
        "included": [sum(line["included"][index] for line in lines) for index in range(len(used))],
        "left_out": sum(line["left_out"] for line in lines),
        "found": sum(line["found"] for line in lines),
        "why": "",
        "total": True,
    }
    return {"splits": used, "lines": [*lines, total]}


def classes(run: RunFolder) -> dict[str, Any] | None:
    """Cases of each training site by class of each label; `None` where no site told any."""
    sites = {name: site.classes for name, site in run.flow.items() if site.classes}
    if not sites:
        return None
    lines = [
        {
            "label": name.replace("_", " ").replace("/", ": "),
            "counts": ["few" if found.get(name, 0) == FEW else str(found.get(name, 0)) for found in sites.values()],
        }
        for name in CLASS_NAMES
        if any(found.get(name, 0) for found in sites.values())
    ]
    return {"sites": list(sites), "lines": lines}


def curves(run: RunFolder) -> list[dict[str, Any]]:
    """Training loss and validation score over the rounds, a line a site."""
    names = sorted({name for item in run.rounds for name in item.sites})
    best = run.chosen.best_round
    loss, score = [], []
    for name in names:
        losses = [
            (item.round, found.loss)
            for item in run.rounds
            if (found := item.sites.get(name)) is not None and found.loss is not None
        ]
        sums = [(item.round, kept) for item in run.rounds if name in item.sites and (kept := item.sums(name))]
        scores = [(number, value) for number, kept in sums if (value := chooses(kept)) is not None]
        cases = max((kept.n for _, kept in sums), default=0)
        loss += [style.Curve(name, *zip(*losses, strict=True))] if losses else []
        score += [style.Curve(f"{name} (n = {cases})", *zip(*scores, strict=True))] if scores else []
    merged = [(item.round, chooses(item.validation())) for item in run.rounds]
    known = [(number, mean) for number, mean in merged if mean is not None]
    mean = style.Curve("all cases", *zip(*known, strict=True)) if known else None
    outlines = run.task in SEGMENTATIONS
    drawn = []
    if loss:
        what = "Dice + cross-entropy" if outlines else "sum over the network's outputs"
        text = f"Mean training loss ({what}) of each site's round"
        svg = style.learning_curves(
            loss, label="training loss", name=f"{run.task}-loss", description=text, best_round=best
        )
        drawn.append({"svg": svg, "caption": f"{run.task}: {text[0].lower()}{text[1:]}."})
    if score or mean:
        label = "validation Dice" if outlines else "validation AUC, mean of labels"
        text = f"{_SCORES.get(run.task, 'Mean AUC')} of each round's averaged model on the sites' validation cases"
        svg = style.learning_curves(
            score, label=label, name=f"{run.task}-validation", description=text, best_round=best, mean=mean
        )
        how = "" if outlines else ": the last round no more than a standard error below the best"
        drawn.append({"svg": svg, "caption": f"{run.task}: {text}; all cases together (black) chose the round{how}."})
    return drawn


def chooses(sums: Sums) -> float | None:
    """The figure that `chosen.best_record` goes by: mean Dice, or of a classifier the mean AUC."""
    if not isinstance(sums, ClassificationSums):
        return sums.score
    found = sums.separation()
    return None if found is None else found[0]


def ledger(run: RunFolder) -> dict[str, Any]:
    """Round by site: the cases that entered the average, or why none did."""
    sites = list(run.config.data.sites)
    lines = []
    for item in run.rounds:
        cells = []
        for name in sites:
            site = item.sites.get(name)
            if site is None:
                cells.append({"good": False, "text": "absent"})
            elif site.status == "accepted":
                skipped = f" ({site.skipped} skipped)" if site.skipped else ""
                cells.append({"good": not site.skipped, "text": f"{site.cases}{skipped}"})
            else:
                reason = f": {site.reason}" if site.reason else ""
                cells.append({"good": False, "text": f"{site.status}{reason}"})
        lines.append(
            {
                "round": item.round,
                "best": item.round == run.chosen.best_round,
                "cells": cells,
                "seconds": item.seconds,
                "hash": item.model_hash[:12],
            }
        )
    return {"task": run.task, "sites": sites, "lines": lines}
