"""Where a network of mammograms looks, on a page: from the run folder's stored heat maps alone."""

from __future__ import annotations

from typing import Any

from server.evaluation.explain_cases import read_cases, read_table
from server.evaluation.heat_shares import LEARNT, TRAINED, UNTRAINED, heat_shares
from server.reports.figures.heat import heat_panel, levels_panel
from server.reports.metric_text import fixed
from server.run_folder.finished_run import FinishedTask
from shared.metrics.intervals import Estimate
from shared.tasks.explanation import Explanation
from shared.tasks.mammogram_heat import AREA

_ARRAYS = ("views", "image", "outline", "heat", "untrained")


def grad_cam(run: FinishedTask, how: Explanation) -> dict[str, Any] | None:
    """Shares of the heat within lesions, and figures of one case per class; None where nothing was explained.

    Without cases where the network has no maps of places.
    """
    tables = read_table(run.path, how)
    if not tables:
        return None
    stored = read_cases(run.path, run.task, _ARRAYS)
    shares = heat_shares(tables, run.config.evaluation, run.config.seed) if stored else {}
    cases = []
    for one in stored:
        title = f"{run.task.classes[one.name]}, predicted with probability {one.probability:.2f}"
        names = [f"{run.task.name}-{kind}-{one.name}" for kind in ("heat", "levels")]
        cases.append(
            {
                "heat": heat_panel(one.arrays, title=title, name=names[0]),
                "levels": levels_panel(one.arrays, title=title, name=names[1]),
                "outlined": bool(one.arrays["outline"].any()),
            }
        )
    return {
        "cases": cases,
        "places": " x ".join(map(str, stored[0].arrays["heat"].shape[1:])) if stored else "",
        "outlined": shares[TRAINED].n if shares else 0,
        "shares": {name: _told(shares[name]) for name in (TRAINED, AREA, UNTRAINED, LEARNT) if name in shares},
    }


def _told(estimate: Estimate) -> str:
    """A share with its interval and its number of cases."""
    interval = "" if estimate.low is None else f"{fixed(estimate.low, 2)} to {fixed(estimate.high, 2)}, "
    return f"{fixed(estimate.value, 2)} ({interval}n = {estimate.n})"
