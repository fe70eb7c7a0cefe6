"""Who took part in what: `participation.csv`, and the one place that says whether a run was complete.

A row a model, site and role. Each number of `results.csv` names a model's hash: here stand the sites and the cases
behind it. Rows of rounds are made from the journal, so that a resumed run has them all.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from server.run_folder.results import ResultRow, Role, replace_file
from server.run_folder.round_record import NO_LABEL, RoundRecord, SiteEntry
from shared.words import plain_words

FILE = "participation.csv"

_MISSED: Mapping[tuple[Role, str], str] = {
    ("train", "absent"): "was absent in",
    ("train", "refused"): "was refused in",
    ("train", "failed"): "failed in",
}
_NOT_DONE: Mapping[Role, str] = {"validation": "did not validate", "test": "did not test the model of"}
_SKIPPED: Mapping[Role, str] = {"train": "in", "validation": "validating", "test": "testing the model of"}


@dataclass(frozen=True, slots=True)
class Row:
    """A site's part in one model: it trained it, or evaluated it."""

    task: str
    round: int
    model_hash: str
    site: str
    role: Role
    status: str
    reason: str
    cases: int
    skipped: int
    attempts: int
    seconds: float | None


class Participation:
    """A run's ledger over all its tasks, in its folder."""

    def __init__(self, folder: Path, sites: Sequence[str]) -> None:
        self._path = folder / FILE
        self._sites = sites
        self._rounds: dict[str, Sequence[RoundRecord]] = {}
        self._chosen: list[Row] = []

    def rounds(self, task: str, records: Sequence[RoundRecord]) -> None:
        """Take a task's committed rounds, all so far, and write."""
        self._rounds[task] = records
        self.write()

    def tested(self, record: RoundRecord, ledger: Mapping[str, SiteEntry]) -> None:
        """Take who tested a chosen round's model."""
        self._chosen += [_row(record, record.model_hash, site, "test", entry) for site, entry in ledger.items()]

    def external(self, rows: Iterable[ResultRow]) -> None:
        """Take the external centre's cases behind each chosen model: as many as its best supported figure rests on."""
        rounds = {item.model_hash: item for records in self._rounds.values() for item in records}
        most: dict[tuple[str, str], int] = {}
        for row in rows:
            if row.role == "external":
                key = (row.model_hash, row.centre)
                most[key] = max(most.get(key, 0), row.n)
        self._chosen += [
            _row(rounds[model], model, centre, "external", SiteEntry("accepted", "", cases))
            for (model, centre), cases in most.items()
            if model in rounds
        ]

    def rows(self) -> list[Row]:
        """Every row: the rounds in order, then the evaluations of the chosen models."""
        committed = [item for records in self._rounds.values() for item in records if item.round > 0]
        return [row for item in committed for row in round_rows(item, self._sites)] + self._chosen

    def missing(self) -> tuple[str, ...]:
        """What keeps the run from being complete; see `missing`."""
        return missing(self.rows())

    def write(self) -> None:
        """Write `participation.csv`, atomically."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=[item.name for item in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(plain_words(asdict(row)) for row in self.rows())
        replace_file(self._path, text.getvalue().encode())


def round_rows(record: RoundRecord, sites: Sequence[str]) -> list[Row]:
    """A round's rows: every site's training, then those that were asked to evaluate its model."""
    unknown = SiteEntry("absent", "not in the ledger", attempts=0)
    trained = {site: record.sites.get(site, unknown) for site in sites}
    return [_row(record, record.model_hash, site, "train", entry) for site, entry in trained.items()] + [
        _row(record, record.model_hash, site, "validation", entry) for site, entry in record.evaluated.items()
    ]


def missing(rows: Sequence[Row]) -> tuple[str, ...]:
    """What is not as it would be with every site and case, a part of a sentence each; nothing for a complete run.

    A site without labels of a task takes no part in it by nature.
    """
    several = len({row.task for row in rows}) > 1
    absent = {
        (row.task, row.round, row.site)
        for row in rows
        if row.role == "train" and row.status != "accepted" and row.reason != NO_LABEL
    }
    found: dict[tuple[str, str, str], list[int]] = {}
    for row in rows:
        where = f" of {row.task}" if several else ""
        if row.status == "accepted":
            if row.skipped:
                count = f"{row.skipped} case{'' if row.skipped == 1 else 's'}"
                found.setdefault((f"{row.site} skipped {count} {_SKIPPED[row.role]}", where, ""), []).append(row.round)
        elif row.reason != NO_LABEL:
            # A round's model is evaluated when the next one is trained: who was away then says nothing of either.
            asked = {row.round, row.round + 1} if row.role == "validation" else {row.round}
            if row.role != "train" and any((row.task, number, row.site) in absent for number in asked):
                continue
            verb = _MISSED.get((row.role, row.status)) or _NOT_DONE[row.role]
            reason = f" ({row.reason})" if row.reason else ""
            found.setdefault((f"{row.site} {verb}", where, reason), []).append(row.round)
    return tuple(
        f"{start} round{'s' if len(rounds) > 1 else ''} {', '.join(map(str, rounds))}{where}{reason}"
        for (start, where, reason), rounds in found.items()
    )


def sentence(parts: Sequence[str]) -> str:
    """What is missing of a run that finished, as it is told; empty for a complete one."""
    return f"finished, but not with every site: {'; '.join(parts)}" if parts else ""


def _row(record: RoundRecord, model_hash: str, site: str, role: Role, entry: SiteEntry) -> Row:
    return Row(
        task=record.task,
        round=record.round,
        model_hash=model_hash,
        site=site,
        role=role,
        status=entry.status,
        reason=entry.reason,
        cases=entry.cases,
        skipped=entry.skipped,
        attempts=entry.attempts,
        seconds=entry.seconds,
    )
