"""What a study says in a sentence and four cards: whether federation helps at a centre that never trained."""

from __future__ import annotations

from typing import Any

from server.reports.metric_text import between, counted, in_words, opening, p_value, rounded, within
from server.reports.study.metric_lookup import ALL, ARM_NAMES, Summary, axis_name, better_side, line_of
from server.run_folder.arms import ENSEMBLE, FEDERATED, LOCAL, POOLED
from server.run_folder.finished_study import FinishedStudy
from shared.metrics.metric import Metric
from shared.tasks.task import Task

QUESTION = "Does federation help at a centre that never trained?"
_RIVALS = {
    LOCAL: "a hospital's own model on average",
    ENSEMBLE: "the mean of the local models' predictions",
    POOLED: "all data in one place",
}


def sentence(study: FinishedStudy, task: Task) -> str:
    """The answer for a task: what the federated model reached, on how many, and how it stands to each other arm."""
    metric, summary = task.headline, Summary(study, task)
    own = summary.get(FEDERATED, ALL, metric)
    if own is None or own.value is None:
        return f"{metric.title} is undefined at the held-out centres: there is no answer."
    folds = len(study.held_out)
    where = "1 centre that never trained" if folds == 1 else f"{folds} centres held out in turn"
    start = (
        f"At {where} ({own.n} {study.subject} of {own.patients} patients, {counted(own.seeds, 'seed')}) federated "
        f"models reached {_spoken(metric)} {rounded(own.value, own.unit)}{_unit(own.unit)}"
    )
    parts = [part for arm in _RIVALS if (part := _against(study, task, summary, arm))]
    return f"{start}{': ' if parts else ''}{'; '.join(parts)}."


def outcome(study: FinishedStudy, task: Task, arm: str) -> str:
    """How the federated model stands to an arm, by their difference at all held-out centres; empty without one."""
    line, own = _comparison(study, task, arm), Summary(study, task).get(FEDERATED, ALL, task.headline)
    if line is None:
        return ""
    if own is None or not own.ranked:
        return "on too few cases to compare with"
    low, high, p = (line[name] for name in ("ci_low", "ci_high", "p_holm"))
    p = line["p"] if p is None else p
    sure = p is not None and p < 1 - study.config.evaluation.confidence
    if low is None or high is None or not sure or low <= 0 <= high:
        return "not shown to differ from"
    return "better than" if (low > 0) == (better_side(task.headline) == "right") else "worse than"


def _against(study: FinishedStudy, task: Task, summary: Summary, arm: str) -> str:
    line = _comparison(study, task, arm)
    if line is None:
        return ""
    unit, other = task.headline.unit, summary.get(arm, ALL, task.headline)
    value = "" if other is None else f"{rounded(other.value, unit)}, "
    gap, interval = rounded(line["difference"], unit), between(line["ci_low"], line["ci_high"], unit)
    p = f"Holm p {p_value(line['p_holm'])}" if line["p_holm"] is not None else f"p {p_value(line['p'])}"
    told = f"{value}difference {gap}, {study.confidence} interval {interval}, {p}"
    return f"{outcome(study, task, arm)} {_RIVALS[arm]} ({told})"


def _comparison(study: FinishedStudy, task: Task, arm: str) -> dict[str, Any] | None:
    return line_of(study.tables.comparisons, task, metric=task.headline.name, centre=ALL, arm=arm)


def cards(study: FinishedStudy, task: Task) -> dict[str, Any]:
    """The headline metric of the four arms at all held-out centres together."""
    summary = Summary(study, task)
    rows = [(ARM_NAMES[arm], summary.get(arm, ALL, task.headline)) for arm in (FEDERATED, LOCAL, POOLED, ENSEMBLE)]
    return {
        "title": task.title,
        "metric": axis_name(task.headline),
        "sentence": sentence(study, task),
        "cards": [{"name": name, "cell": row} for name, row in rows if row is not None],
    }


def title(study: FinishedStudy) -> str:
    """The design in a line."""
    centres = len(study.centres)
    count = opening(in_words(centres))
    noun = "centre" if study.provenance.phantom_sites else "phantom centre" if study.phantom else "hospital"
    return f"{count} {noun}{'' if centres == 1 else 's'}, each left out in turn: {QUESTION[0].lower()}{QUESTION[1:]}"


def remarks(study: FinishedStudy) -> list[str]:
    """What a reader must know beside the answer: thin cells, one seed, folds that never ran."""
    lines = []
    if len(study.config.study.seeds) == 1:
        lines.append("One training seed: how much another seed would move these figures is not known.")
    if missing := [name for name in study.centres if name not in study.held_out]:
        lines.append(f"Never held out, so never an external centre: {', '.join(missing)}.")
    for task in study.tasks:
        rows = [row for row in Summary(study, task).rows if row.arm == FEDERATED and row.role == "external"]
        if thin := sorted({row.centre for row in rows if not row.ranked}):
            of = f" of {within(task.title)}" if len(study.tasks) > 1 else ""
            lines.append(f"Too few cases for some figures{of} at {', '.join(thin)}: shown, not ranked.")
    return lines


def _spoken(metric: Metric) -> str:
    """A metric's title for a sentence, where a comma would part it."""
    name, _, of = metric.title.partition(", ")
    return f"{name} ({of})" if of else name


def _unit(unit: str) -> str:
    return "" if unit == "1" else f" {unit}"
