"""The sentences that open a task's section and the page: where it was evaluated, and the figures that sum it up."""

from __future__ import annotations

from collections.abc import Sequence

from server.reports.metric_text import DASH, fixed, interval, listed, opening, unit, value, within
from server.reports.sections.external_data import ExternalData
from server.reports.sections.masks import general_metrics
from server.run_folder.arms import END_TO_END, FEDERATED, ORACLE
from server.run_folder.finished_run import FinishedTask
from server.run_folder.results import ResultRow
from shared.metrics.metric import Metric
from shared.metrics.paired_numbers import NumberPair


def sentence(data: ExternalData) -> str:
    """The first figures with intervals and n; of scores also the other outline, rivals, and what was possible."""
    node = ", evaluated at its own node" if data.run.at_node else ""
    cases = data.where if data.n != 1 else data.where.replace("cases", "case", 1)
    where = f"On {data.n} {cases}, which never trained{node}"
    cards = [metric for metric in general_metrics(data) if "card" in metric.shown]
    figures = [f"{metric.title} {_figure(data, data.own[metric.name], first=metric is cards[0])}" for metric in cards]
    texts = [*([f": {'; '.join(figures)}."] if cards else []), *_areas(data, data.leading_areas)]
    texts += [text for pair in data.task.pairs if (text := _error(data, pair))]
    if not texts:
        return f"{where}."
    first, *others = texts
    return " ".join([f"{where}{first if first.startswith(':') else f', {first}'}", *map(opening, others)])


def no_sentence(run: FinishedTask) -> str:
    """That nothing outside the training sites was evaluated."""
    centre = run.config.data.external
    if centre is None:
        return "No external centre evaluated it: internal figures flatter."
    if run.results.provenance.outcome == "failed" and not run.external_rows:
        return f"{centre} did not evaluate it before the run failed: internal figures flatter."
    return (
        f"No case of {centre} has the reference or a label that this task needs: nothing outside the training sites "
        "was evaluated, and internal figures flatter."
    )


def _areas(data: ExternalData, leading: Sequence[Metric]) -> list[str]:
    if not leading:
        return []
    means = len(leading) == 1 and len(leading[0].labels) > 1
    subject = f"{leading[0].title}," if means else "AUC"
    text = f"{f'the {data.name}{chr(39)}s' if data.name else 'the'} {subject} is {_spoken(data, leading, FEDERATED)}"
    if END_TO_END in data.rows:
        predicted = "in the outline that the federation predicted itself"
        text += f" in the reference outline; end to end, {predicted}, it is {_spoken(data, leading, END_TO_END)}"
    elif data.task.reads_outline:
        text += " in the reference outline. Nothing was read end to end, in predicted outlines"
    sentences = [f"{text}."]
    if data.rivals:
        rivals = listed([f"{within(data.arm_name(arm))} {_spoken(data, leading, arm)}" for arm in data.rivals])
        sentences.append(f"Its rivals on these cases: {rivals}.")
    return sentences + _possible(data, leading)


def _possible(data: ExternalData, leading: Sequence[Metric]) -> list[str]:
    """How far the AUCs are from the best possible ones; on phantoms alone these are known."""
    gaps, leaking = [], False
    for metric in leading:
        reached, most = (data.rows.get(arm, {}).get(metric.name) for arm in (FEDERATED, ORACLE))
        if reached is not None and most is not None and reached.value is not None and most.value is not None:
            gap = f"{fixed(most.value - reached.value, 3)} more" if most.value > reached.value else "no more than this"
            gaps.append(f"{fixed(most.value, 3)}{_of(data, leading, metric)} ({gap})")
            leaking |= reached.ci_low is not None and reached.ci_low > most.value
    sentences = [f"The best possible AUC on these phantoms is {listed(gaps)}."] if gaps else []
    return [*sentences, "More than what is possible is a leak until shown otherwise."] if leaking else sentences


def _error(data: ExternalData, pair: NumberPair) -> str:
    """The mean error of a predicted number against that of always answering the mean; empty without the figure."""
    error, floor = (data.own.get(f"{pair.pattern.format('mae')}{end}") for end in ("", "_of_mean"))
    if error is None or error.value is None:
        return ""
    # Sums hold no floor.
    against = "" if floor is None else f", against {value(floor)} for always answering these cases' mean"
    units = "percentage points" if pair.unit == "%" else pair.unit
    return f"{pair.title} is off by {value(error)} {units} on average ({_bounds(error)}n = {error.n}){against}."


def _spoken(data: ExternalData, leading: Sequence[Metric], arm: str) -> str:
    """Each AUC that sums an arm up, with its interval and counts."""
    known = [(metric, row) for metric in leading if (row := data.rows[arm].get(metric.name)) is not None]
    words = [
        f"{_figure(data, row, metric, first=arm == FEDERATED and metric is leading[0])}{_of(data, leading, metric)}"
        for metric, row in known
    ]
    return listed(words) if words else DASH


def _figure(data: ExternalData, row: ResultRow, metric: Metric | None = None, *, first: bool = False) -> str:
    """A figure with its interval and counts; the first of a page says how sure its interval is."""
    if row.value is None:
        return f"undefined (n = {row.n})"
    sure = f"{data.run.config.evaluation.confidence:.0%} interval " if first and row.ci_low is not None else ""
    counts = f"n = {row.n}"
    if metric is not None and len(metric.labels) == 1 and row == data.own[metric.name] and not data.run.at_node:
        counts = "{} of {} positive".format(*data.counts(metric.labels[0]))
    shown = f"{value(row)} {unit(row)}".strip()
    return f"{shown} ({sure}{_bounds(row)}{counts})"


def _bounds(row: ResultRow) -> str:
    return "" if row.ci_low is None else f"{interval(row)}, "


def _of(data: ExternalData, leading: Sequence[Metric], metric: Metric) -> str:
    return "" if len(leading) == 1 else f" for {data.area_name(metric)}"
