"""Where a network of mammograms looks, on a page: from the run folder's stored heat maps alone."""

from __future__ import annotations

from typing import Any

from server.evaluation.explain_cases import read_cases, read_table
from server.evaluation.heat_shares import LEARNT, TRAINED, UNTRAINED, heat_shares
from server.reports.figures.heat import heat_panel, levels_panel
from server.reports.metric_text import between, fixed
from server.run_folder.finished_run import FinishedTask
from shared.metrics.intervals import Estimate
from shared.tasks.explanation import Explanation, class_titles
from shared.tasks.mammogram_heat import AREA

_ARRAYS = ("views", "image", "outline", "heat", "untrained")
_SHARES = {
    TRAINED: "heat of the trained network",
    UNTRAINED: "heat of the network before training",
    LEARNT: "trained minus untrained",
    AREA: "pixels that are read",
}


def grad_cam(run: FinishedTask, how: Explanation) -> dict[str, Any] | None:
    """Shares of the heat within lesions, and figures of one case per class; None where nothing was explained.

    Without cases where the network has no maps of places; without shares where no breast has an outline.
    """
    tables = read_table(run.path, how)
    if not tables:
        return None
    stored = read_cases(run.path, run.task, _ARRAYS)
    shares = heat_shares(tables, run.config.evaluation, run.config.seed)
    titles, cases = class_titles(run.task.scored), []
    for one in stored:
        title = titles[one.name]
        told = f"{title}, predicted with probability {one.probability:.2f}"
        heat, levels = (f"{run.task.name}-{kind}-{one.name}" for kind in ("heat", "levels"))
        cases.append(
            {
                "title": title,
                "heat": heat_panel(one.arrays, title=told, name=heat),
                "levels": levels_panel(one.arrays, title=told, name=levels),
            }
        )
    return {
        "cases": cases,
        "places": " x ".join(map(str, stored[0].arrays["heat"].shape[1:])) if stored else "",
        "outlined": any(one.arrays["outline"].any() for one in stored),
        "shares": [_line(name, shares[key]) for key, name in _SHARES.items()] if shares[TRAINED].n else [],
    }


def _line(name: str, share: Estimate) -> dict[str, Any]:
    return {
        "name": name,
        "value": fixed(share.value, 3),
        "interval": between(share.low, share.high, "1"),
        "n": share.n,
    }
