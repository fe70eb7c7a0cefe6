"""The one evaluation loop: a task, its models, prepared cases; rows of the per-case table out.

A site adds its rows to sums, the external centre and a study keep them as a table. Whoever asks says what the arms are.
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

from torch import Tensor, nn

from shared.cohort.site_folder import patient_of
from shared.config.run_config import RunConfig
from shared.errors import RunError, StudyError
from shared.metrics.coarse import coarse, grouped_scores
from shared.metrics.sums import Sums
from shared.modalities.modality import Plan, PreparedCase
from shared.tasks.task import OWN, Measured, Row, Task

log = logging.getLogger(__name__)

_LARGEST_OUTPUT = 1e4  # of a network about patients: no score changes beyond, and no sum of a few overflows
DAMAGED = (OSError, ValueError, EOFError, StudyError)
"""What a lost, empty, truncated or overwritten file of the cache raises."""


@dataclass(frozen=True, slots=True)
class Arms:
    """Models that are evaluated on the same cases.

    Attributes
    ----------
    models
        By arm.
    answers
        Labels that an arm answers; an arm that is not named answers all of the task's.
    ensemble
        Name of the arm that is the mean of `members`' predictions; empty for none.
    members
        The arms behind it.

    """

    models: Mapping[str, nn.Module]
    answers: Mapping[str, frozenset[str]] = field(default_factory=dict)
    ensemble: str = ""
    members: Sequence[str] = ()


def evaluate(
    task: Task,
    arms: Arms,
    cases: Sequence[PreparedCase],
    plan: Plan,
    config: RunConfig,
    *,
    full: bool = True,
    on_case: Callable[[], None] = lambda: None,
) -> Iterator[tuple[PreparedCase, dict[str, Measured]]]:
    """Evaluate every arm on every case: one model is one arm, and so are the mean of several, and a second reading.

    Prepared cases must be such as the task can use; `plan` is that of its modality, `config` as the task sees it.
    Yields each case, and by arm what was measured of it: every column where `full`, otherwise those that sums need;
    `on_case` is called after each. An arm that has no prediction of a case is not among them. `RunError` where a model
    answers with what is no number.
    """
    reader = task.evaluator
    for case in cases:
        predictions = {}
        for arm, model in arms.models.items():
            prediction = reader.predict(model, case, plan, config, None)
            if prediction is None:
                continue
            if arm in arms.answers:
                prediction = reader.restrict(prediction, arms.answers[arm])
            predictions[arm] = prediction
        if arms.ensemble and predictions:
            predictions[arms.ensemble] = reader.average([predictions[arm] for arm in arms.members])
        measured = {arm: reader.measure(item, case, config, full=full) for arm, item in predictions.items()}
        for item in measured.values():
            _check_numbers(item)
        yield case, measured
        on_case()


def evaluate_site(
    task: Task, model: nn.Module, cases: Sequence[PreparedCase], plan: Plan, config: RunConfig, *, least: int = 1
) -> tuple[Sums, int]:
    """The sums of a site's cases: all that leaves it, and how many cases were skipped.

    A case whose prepared files are damaged costs itself, not the site's answer; the site's own log names it. One of
    which there is no prediction is no part of the sums. `RunError` where the model answers with what is no number.

    With a `least` above 1 the cases are patients: parts with fewer of them behind are empty, the others are told
    coarsely (`shared.metrics.coarse`), and what the model answers is made a number, so that no error tells of one case.
    """
    rows: list[tuple[str, Row]] = []
    skipped = 0
    with _numbers(model) if least > 1 else nullcontext():
        for case in cases:
            try:
                ((_, measured),) = evaluate(task, Arms({OWN: model}), [case], plan, config, full=False)
            except DAMAGED as error:
                kind = type(error).__name__
                log.warning("case %s is skipped: its prepared files cannot be read (%s)", case.key, kind)
                skipped += 1
                continue
            if OWN in measured:
                rows.append((patient_of(case.key), measured[OWN].rows[OWN]))
    if len({patient for patient, _ in rows}) < least:
        rows = []
    told = grouped_scores(rows, task.metrics, least) if least > 1 else [row for _, row in rows]
    sums = Sums.zero(task.kinds)
    behind: dict[str, set[str]] = defaultdict(set)
    for (patient, _), row in zip(rows, told, strict=True):
        own = task.sums(row)
        sums = sums + own
        for name in own.sides():
            behind[name].add(patient)
    sums = sums.without(task.parts_beside(name for name, own in behind.items() if len(own) < least))
    return coarse(sums, task.metrics, least) if least > 1 else sums, skipped


@contextmanager
def _numbers(model: nn.Module) -> Iterator[None]:
    """Let a model answer with numbers alone, none so large that sums of a few are not: NaN is 0."""

    def bounded(_model: nn.Module, _args: object, outputs: Tensor | Sequence[Tensor]) -> Tensor | list[Tensor]:
        parts = [outputs] if isinstance(outputs, Tensor) else outputs
        numbers = [part.nan_to_num(0.0).clamp(-_LARGEST_OUTPUT, _LARGEST_OUTPUT) for part in parts]
        return numbers[0] if isinstance(outputs, Tensor) else numbers

    hook = model.register_forward_hook(bounded)
    try:
        yield
    finally:
        hook.remove()


def _check_numbers(measured: Measured) -> None:
    """A missing figure is None: what is no number comes from the model, and would pass for a figure that is missing."""
    for row in measured.rows.values():
        if wrong := [name for name, value in row.items() if value is not None and not math.isfinite(value)]:
            raise RunError(f"the model's {', '.join(wrong[:3])} is not a number: its training diverged")


def table_row(case: PreparedCase, centre: str, arm: str, model_hash: str, row: Row) -> dict[str, object]:
    """A row of the per-case table: whose case, which arm and model, and the figures."""
    return {
        "case": case.key,
        "patient": patient_of(case.key),
        "centre": centre,
        "arm": arm,
        "model_hash": model_hash,
        **row,
    }
