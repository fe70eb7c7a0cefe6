"""What a study says in a sentence and four cards: whether federation helps at a centre that never trained."""

from __future__ import annotations

from typing import Any

from server.reports import metric_text
from server.reports.study import metric_lookup
from server.reports.study.metric_lookup import ARM_NAMES, Summary, between, number, p_value, rounded
from server.reports.study.study_reader import Study

QUESTION = "Does federation help at a centre that never trained?"
_CARDS = ("federated", "local", "pooled", "ensemble")
_NUMBERS = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")


def sentence(study: Study, task: str) -> str:
    """The answer for a task: federated against local, ensemble and pooled, and on how many it rests."""
    metric = metric_lookup.headline(study, task)
    own = Summary(study, task).get("federated", "all", metric)
    if own is None or own.row.value is None:
        return f"{metric_lookup.metric_name(metric)} is undefined at the held-out centres: there is no answer."
    folds, seeds = len(study.held_out), own.seeds
    where = "1 centre that never trained" if folds == 1 else f"{folds} centres held out in turn"
    start = (
        f"at {where} ({own.row.n} {study.subject} of {own.patients} patients, {seeds} seed{'' if seeds == 1 else 's'}) "
        f"federated models reached {_spoken(metric)} {metric_text.value(own.row)}{_unit(own.row.unit)}"
    )
    parts = (start, *(_against(study, task, metric, arm) for arm in ("local", "ensemble", "pooled")))
    return f"{verdict(study, task)} {'; '.join(part for part in parts if part)}."


def verdict(study: Study, task: str) -> str:
    """Yes, no or not shown: by the primary comparison with a hospital's own model."""
    metric = metric_lookup.headline(study, task)
    line, own = _comparison(study, task, metric, "local"), Summary(study, task).get("federated", "all", metric)
    if line is None:
        return "Not compared:"
    if own is None or not own.ranked:
        return "Too few cases to say:"
    low, high, p = (number(line[name]) for name in ("ci_low", "ci_high", "p_holm"))
    p = number(line["p"]) if p is None else p
    sure = p is not None and p < 1 - study.config.evaluation.confidence
    if low is None or high is None or not sure or low <= 0 <= high:
        return "Not shown:"
    gained = (low > 0) == (metric_lookup.better(metric) == "right")
    return "Yes:" if gained else "No, it was worse:"


def _against(study: Study, task: str, metric: str, arm: str) -> str:
    line = _comparison(study, task, metric, arm)
    if line is None:
        return ""
    other = Summary(study, task).get(arm, "all", metric)
    unit = "1" if other is None else other.row.unit
    name = {
        "local": "a hospital's own model on average",
        "ensemble": "the mean of the local models' predictions",
        "pooled": "all data in one place",
    }[arm]
    value = "" if other is None else f" {metric_text.value(other.row)}"
    gap, interval = rounded(line["difference"], unit), between(line["ci_low"], line["ci_high"], unit)
    p = f"Holm p {p_value(line['p_holm'])}" if number(line["p_holm"]) is not None else f"p {p_value(line['p'])}"
    return f"{name}{value}, difference {gap} ({study.confidence} interval {interval}, {p})"


def _comparison(study: Study, task: str, metric: str, arm: str) -> dict[str, Any] | None:
    table = study.tables.comparisons
    found = table[
        (table["task"] == task) & (table["metric"] == metric) & (table["centre"] == "all") & (table["arm"] == arm)
    ]
    return {str(key): value for key, value in found.iloc[0].items()} if len(found) else None


def cards(study: Study, task: str) -> dict[str, Any]:
    """The headline metric of the four arms at all held-out centres together."""
    metric, summary = metric_lookup.headline(study, task), Summary(study, task)
    found = [(ARM_NAMES[arm], summary.get(arm, "all", metric)) for arm in _CARDS]
    return {
        "task": task,
        "title": metric_lookup.TASK_NAMES.get(task, task),
        "metric": metric_lookup.axis_name(metric, found[0][1].row.unit if found and found[0][1] else "1"),
        "sentence": sentence(study, task),
        "cards": [{"name": name, "cell": cell} for name, cell in found if cell is not None],
    }


def title(study: Study) -> str:
    """The design in a line."""
    number_of = len(study.centres)
    count = _NUMBERS[number_of] if number_of < len(_NUMBERS) else str(number_of)
    noun = "phantom centre" if study.phantom else "hospital"
    return f"{count} {noun}{'' if number_of == 1 else 's'}, each left out in turn: {QUESTION[0].lower()}{QUESTION[1:]}"


def remarks(study: Study) -> list[str]:
    """What a reader must know beside the answer: thin cells, one seed, folds that never ran."""
    lines = []
    if len(study.config.study.seeds) == 1:
        lines.append("One training seed: how much another seed would move these figures is not known.")
    if missing := [name for name in study.centres if name not in study.held_out]:
        lines.append(f"Never held out, so never an external centre: {', '.join(missing)}.")
    for task in study.tasks:
        thin = sorted({item.row.centre for item in Summary(study, task).all()
                       if item.row.arm == "federated" and item.row.role == "external" and not item.ranked})  # fmt: skip
        if thin:
            where = f" of {metric_lookup.TASK_NAMES.get(task, task).lower()}" if len(study.tasks) > 1 else ""
            lines.append(f"Too few cases for some figures{where} at {', '.join(thin)}: shown, not ranked.")
    return lines


def _spoken(metric: str) -> str:
    """A metric's name for a sentence, where a comma would part it."""
    name, _, of = metric_lookup.metric_name(metric).partition(", ")
    return f"{name} ({of})" if of else name


def _unit(unit: str) -> str:
    return "" if unit == "1" else f" {unit}"
