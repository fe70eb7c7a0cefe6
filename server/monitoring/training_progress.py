"""The progress of a run's tasks and sites, from its committed rounds: values for tiles, curves and table rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from shared.tasks import TASKS, task_named

_PACE = 5
_FEWEST = 2
"""Most and fewest rounds from which the time left is estimated."""
_AFTER_ROUND = {"accepted": "connected", "absent": "absent", "refused": "refused", "failed": "failed"}


def task_course(task: str, rounds: Sequence[Mapping[str, Any]], planned: int | None) -> dict[str, Any]:
    """A task's rounds: `task`, `measure` (what `score` is), `total` rounds or None, `left_s`, `rounds`.

    Every round has `round`, `seconds`, `hash` (12 digits), `score` (all validation cases together) and
    `sites`, of each `status`, `reason`, `cases`, `loss`, `score`; what is missing or not finite is None.
    """
    shown = [
        {key: _finite(value) for key, value in item.items() if key not in {"sites", "committed"}}
        | {
            "sites": {
                name: {key: _finite(value) for key, value in site.items()} for name, site in item["sites"].items()
            }
        }
        for item in sorted(rounds, key=lambda item: item["round"])
    ]
    remaining = None if planned is None else max(0, planned - (shown[-1]["round"] if shown else 0))
    seconds = [item["seconds"] for item in shown[-_PACE:] if item["seconds"] is not None]
    left = None
    if remaining == 0:
        left = 0.0
    elif remaining is not None and len(seconds) >= _FEWEST:
        left = remaining * fmean(seconds)
    return {"task": task, "measure": _measure(task), "total": planned, "left_s": left, "rounds": shown}


def pace(courses: Sequence[Mapping[str, Any]]) -> float | None:
    """Seconds of training left in all tasks; None while a task has too few rounds for an estimate."""
    left = [item["left_s"] for item in courses]
    return sum(left) if left and None not in left else None


def site_tiles(
    named: Sequence[str],
    states: Mapping[str, Mapping[str, Any]],
    cases: Mapping[str, int],
    courses: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """A tile per site: `name`, `state`, `since`, `reason`, `cases`, and `loss` and `score` of its last round.

    First come the sites that the configuration has `named`. `states` are those of `sites.json`; without one, it follows
    from the last round. `cases` are the training cases that a site registered. The last of the tasks' courses that has
    rounds is the current one.
    """
    rounds: Sequence[Mapping[str, Any]] = next((item["rounds"] for item in reversed(courses) if item["rounds"]), ())
    ledger = rounds[-1]["sites"] if rounds else {}
    tiles = []
    for name in dict.fromkeys([*named, *states, *ledger]):
        last = ledger.get(name, {})
        own = states.get(name) or {"state": _AFTER_ROUND.get(last.get("status", ""), "waiting"), "since": None}
        tiles.append(
            {
                "name": name,
                "state": own["state"],
                "since": _finite(own["since"]),
                "reason": own.get("reason") or last.get("reason", ""),
                "cases": cases.get(name) or last.get("cases") or None,
                "loss": _last(rounds, name, "loss"),
                "score": _last(rounds, name, "score"),
            }
        )
    return tiles


def _last(rounds: Sequence[Mapping[str, Any]], name: str, key: str) -> float | None:
    values = (item["sites"].get(name, {}).get(key) for item in reversed(rounds))
    return next((value for value in values if value is not None), None)


def _measure(task: str) -> str:
    return task_named(task).choice.title if task in TASKS else "score"


def _finite(value: Any) -> Any:
    """None in place of NaN and infinity, which JSON does not have."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
