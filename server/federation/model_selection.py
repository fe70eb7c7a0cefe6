"""Which round's model a run stands for, and the operating points that are frozen with it.

Both rest on the training sites' validation cases, never on another centre.
"""

from __future__ import annotations

from collections.abc import Sequence

from server.run_folder.round_record import RoundRecord
from shared.errors import RunError
from shared.metrics.scores import youden_threshold
from shared.tasks.task import Task


def chosen_record(task: Task, records: Sequence[RoundRecord]) -> RoundRecord:
    """The round whose model the training sites' validation cases choose.

    Raises
    ------
    RunError
        No round was committed.

    """
    rounds = {item.round: item for item in records if item.round > 0}
    if not rounds:
        raise RunError("no round was committed")
    return rounds[task.choice.best({number: item.validation() for number, item in rounds.items()})]


def thresholds(task: Task, record: RoundRecord) -> dict[str, float | None]:
    """Operating point of each label that a task scores, on the sites' validation cases of a round."""
    sums = record.validation()
    return {label.name: youden_threshold(sums.histogram(label.name)) for label in task.scored}
