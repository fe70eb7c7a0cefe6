"""What this hospital has answered so far, kept on its own disk: its splits, the sets of patients, the questions.

One JSON file in the kit's `state/`, written before an answer leaves. Patients stand in it by a hash of pseudonym and
labels. Who removes the file gives every budget and every earlier set away: it belongs into the hospital's backup.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import AwareDatetime, Field

from shared.atomic_files import replace_file, writing
from shared.cohort.splits import assign_splits
from shared.config.sections import Section, SplitConfig
from shared.errors import ConfigError, RunError
from shared.policy import Policy
from shared.runtime.locks import hold_lock
from shared.types import Split

_MONTH = timedelta(days=31)
_PATIENCE_S = 60.0
R = TypeVar("R")


class _Entries(Section):
    """The file: the first run's shares, splits by patient, sets by name, when each question came, questions by run."""

    version: Literal[1] = 1
    shares: SplitConfig | None = None
    splits: dict[str, Split] = Field(default_factory=dict)
    sets: dict[str, list[list[str]]] = Field(default_factory=dict)
    questions: list[AwareDatetime] = Field(default_factory=list)
    runs: dict[str, int] = Field(default_factory=dict)


class Ledger:
    """The ledger in the file at `path`, made when needed; several processes may use it at once."""

    def __init__(self, path: Path, policy: Policy, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.path = path
        self.policy = policy
        self._now = now

    def count_question(self, run: str) -> None:
        """Count a question before it is answered; also one whose answer is lost on the way has been answered.

        Raises
        ------
        ConfigError
            The policy's budget for the run or for 31 days is spent.
        RunError
            The ledger is damaged or cannot be written: then nothing is answered.

        """

        def change(entries: _Entries) -> tuple[_Entries, None]:
            now = self._now()
            recent = [at for at in entries.questions if now - at < _MONTH]
            name = hashlib.sha256(run.encode()).hexdigest()[:16]  # the server's word, of any length
            of_run = entries.runs.get(name, 0)
            for asked, most, of in (
                (of_run, self.policy.questions_per_run, "a run"),
                (len(recent), self.policy.questions_per_month, "31 days"),
            ):
                if asked >= most:
                    raise ConfigError(f"this hospital's policy allows {most} questions in {of}, and they are spent")
            runs = entries.runs | {name: of_run + 1}
            return entries.model_copy(update={"questions": [*recent, now], "runs": runs}), None

        self._change(change)

    def splits(self, patients: set[str], shares: SplitConfig) -> dict[str, Split]:
        """Split of each patient (pseudonym), drawn once by the first call's shares; those of later runs do nothing.

        Patients who come later are drawn by those first shares, too. The draw orders patients by their pseudonyms,
        which depend on the site's own key alone.
        """

        def change(entries: _Entries) -> tuple[_Entries, dict[str, Split]]:
            first, new = entries.shares or shares, sorted(patients - entries.splits.keys())
            known = entries.splits | assign_splits(new, seed=0, validation=first.validation, test=first.test)
            update = {"shares": first, "splits": known}
            return entries.model_copy(update=update), {patient: known[patient] for patient in patients}

        return self._change(change)

    def admit(self, name: str, patients: Mapping[str, str]) -> set[str]:
        """Those of the patients that an answer about the set `name` may stand for.

        `patients` are the pseudonyms with a text each of all that is known of the patient; a patient of whom another
        thing is known counts as another one. The set that is returned is empty or has `least_patients` or more, and
        from each earlier set of the same name it differs by nobody or by `least_patients` or more: of two sums over
        such sets the difference tells of nobody alone. So a few new patients wait; where a few are gone others rest.
        """
        least = self.policy.least_patients

        def change(entries: _Entries) -> tuple[_Entries, set[str]]:
            items = {patient: _item(patient, told) for patient, told in patients.items()}
            earlier = [set(one) for one in entries.sets.get(name, [])]
            kept = settle(items.values(), earlier, least)
            if kept and kept not in earlier:
                earlier.append(kept)
            sets = entries.sets | {name: [sorted(one) for one in earlier]}
            return entries.model_copy(update={"sets": sets}), {patient for patient in items if items[patient] in kept}

        return self._change(change)

    def _change(self, change: Callable[[_Entries], tuple[_Entries, R]]) -> R:
        """Read, change and write the file, alone."""
        with writing("the hospital's ledger"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        with hold_lock(self.path.with_suffix(".lock"), "the hospital's ledger is in use", _PATIENCE_S):
            try:
                before = self.path.read_bytes() if self.path.exists() else b""
                entries = _Entries.model_validate_json(before) if before else _Entries()
            except (OSError, ValueError) as error:
                raise RunError("the hospital's ledger is damaged: put state/ledger.json back from a backup") from error
            changed, result = change(entries)
            if changed != entries:
                replace_file(self.path, changed.model_dump_json().encode(), "the hospital's ledger", durable=True)
            return result


def settle(items: Collection[str], earlier: Collection[set[str]], least: int) -> set[str]:
    """The largest part of the items, by a simple rule, that differs from every earlier set by nobody or `least`.

    Where the difference is smaller, items that the earlier set lacks wait, and as many of its others rest, in the
    order of their hashes, as are missing to `least`. Fewer than `least` items are none.
    """
    kept = set(items)
    while close := next((one for one in earlier if 0 < len(kept ^ one) < least), None):
        common = kept & close
        gone = len(close - kept)
        kept = set(sorted(common)[least - gone :]) if gone else common
    return kept if len(kept) >= least else set()


def _item(patient: str, told: str) -> str:
    return hashlib.sha256(f"{patient}|{told}".encode()).hexdigest()[:32]
