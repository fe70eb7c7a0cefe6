"""A committed round of a task as it lies in the journal: `journal/TASK/round-NNN.json`, read and written here alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

from server.run_folder.format import read_json
from shared.errors import RunError
from shared.metrics.scores import youden_threshold
from shared.metrics.sums import Sums
from shared.tasks import task_named

Status = Literal["accepted", "absent", "refused", "failed"]
NO_LABEL = "has no label of this task"
"""Why a site takes no part in a task by nature: nothing is missing."""


@dataclass(config=ConfigDict(extra="ignore"))
class SiteEntry:
    """A site's line in a ledger; `validation` are the task's sums of the round's new model, `Sums.to_flat`.

    `cases` entered, `skipped` ones could not be opened this time; the site was asked `attempts` times. `held_up`: it
    gave no good answer, and for more than half of the time until the deadline the others waited for it. `update_hash`:
    the hash of the update that entered (`server.federation.update_copies`).
    """

    status: Status
    reason: str = ""
    cases: int = 0
    seconds: float | None = None
    loss: float | None = None
    validation: dict[str, float] | None = None
    attempts: int = 1
    skipped: int = 0
    held_up: bool = False
    update_hash: str = ""


@dataclass(config=ConfigDict(extra="ignore", protected_namespaces=()))
class RoundRecord:
    """One committed round of a task: who trained it, and who evaluated the new model on its validation cases.

    Nothing random outlives a round: `seed`, a site's name and the round's number fix all that is drawn in it
    (`shared.training.train_round`), so these are the generators' whole state. None in journals of earlier versions,
    which also call the second ledger `judged`.
    """

    task: str
    round: int
    model_hash: str
    seconds: float
    sites: dict[str, SiteEntry] = Field(default_factory=dict)
    evaluated: dict[str, SiteEntry] = Field(default_factory=dict, validation_alias=AliasChoices("evaluated", "judged"))
    seed: int | None = None

    def sums(self, site: str) -> Sums:
        """The round's model on a site's validation cases; of no case where the site did not answer.

        `ValueError` where what the journal holds are no sums.
        """
        flat = self.sites[site].validation
        return Sums.from_flat(flat, task_named(self.task).kinds, strict=False) if flat else Sums()

    def validation(self) -> Sums:
        """All sites' validation cases together: what chooses the round."""
        return sum((self.sums(site) for site in self.sites), Sums())

    def is_unevaluated(self) -> bool:
        """Whether somebody is still to evaluate the round's model: that is asked with the next round's training.

        Of a run that is resumed, also where a site was away when it was asked.
        """
        return self.round > 0 and any(item.status != "accepted" for item in self.evaluated.values() or [_NOBODY])

    def thresholds(self) -> dict[str, float | None]:
        """Operating point of each label that the task scores, on the training sites' validation cases."""
        sums = self.validation()
        return {label.name: youden_threshold(sums.histogram(label.name)) for label in task_named(self.task).scored}


_NOBODY = SiteEntry("absent")
_RECORD = TypeAdapter(RoundRecord)


def chosen_record(records: Sequence[RoundRecord]) -> RoundRecord:
    """The round whose model the training sites' validation cases choose; `RunError` where none was committed."""
    rounds = {item.round: item for item in records if item.round > 0}
    if not rounds:
        raise RunError("no round was committed")
    choice = task_named(records[0].task).choice
    return rounds[choice.best({number: item.validation() for number, item in rounds.items()})]


def record_bytes(record: RoundRecord) -> bytes:
    """A record as it is written."""
    return _RECORD.dump_json(record, indent=1)


def read_records(run_dir: Path, task: str) -> list[RoundRecord]:
    """Every committed round of a task, in order, from round 0 (the start).

    `RunError` where a record is damaged.
    """
    files = (run_dir / "journal" / task).glob("round-*.json")
    return sorted((read_record(file) for file in files), key=lambda item: item.round)


def read_record(file: Path) -> RoundRecord:
    """Read one record; `RunError` where it is absent, or not what the journal writes."""
    name = f"journal/{file.parent.name}/{file.name}"
    record = read_json(file, _RECORD, name)
    try:
        record.validation()
    except ValueError as error:
        raise RunError(f"{name} cannot be read: it is damaged ({error}); restore it from a copy") from error
    return record
