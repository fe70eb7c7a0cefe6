"""What this hospital has answered so far, kept on its own disk: its splits, the sets of patients, the questions.

One JSON file in the kit's `state/`, written before an answer leaves. Patients stand in it by a hash of pseudonym and
labels. Who removes the file gives every budget and every earlier set away: it belongs into the hospital's backup.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from shared.atomic_files import replace_file
from shared.cohort.splits import assign_splits
from shared.config.sections import SplitConfig
from shared.errors import ConfigError, RunError
from shared.policy import Policy
from shared.runtime.locks import hold_lock
from shared.types import Split

_MONTH = timedelta(days=31)
_PATIENCE_S = 60.0
R = TypeVar("R")


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

        def change(entries: dict[str, Any]) -> None:
            now = self._now()
            recent = [at for at in entries["questions"] if now - datetime.fromisoformat(at) < _MONTH]
            name = hashlib.sha256(run.encode()).hexdigest()[:16]  # the server's word, of any length
            of_run = entries["runs"].get(name, 0)
            for asked, most, of in (
                (of_run, self.policy.questions_per_run, "a run"),
                (len(recent), self.policy.questions_per_month, "31 days"),
            ):
                if asked >= most:
                    raise ConfigError(f"this hospital's policy allows {most} questions in {of}, and they are spent")
            entries["questions"] = [*recent, now.isoformat(timespec="seconds")]
            entries["runs"][name] = of_run + 1

        self._change(change)

    def splits(self, patients: set[str], shares: SplitConfig) -> dict[str, Split]:
        """Split of each patient (pseudonym), drawn once by the first call's shares; those of later runs do nothing.

        Patients who come later are drawn by those first shares, too. The draw orders patients by their pseudonyms,
        which depend on the site's own key alone.
        """

        def change(entries: dict[str, Any]) -> dict[str, Split]:
            known: dict[str, Split] = entries["splits"]
            agreed = entries["shares"] = entries["shares"] or shares.model_dump()
            known |= assign_splits(sorted(patients - known.keys()), seed=0, **agreed)
            return {patient: known[patient] for patient in patients}

        return self._change(change)

    def admit(self, name: str, patients: Mapping[str, str]) -> set[str]:
        """Those of the patients that an answer about the set `name` may stand for.

        `patients` are the pseudonyms with a text each of all that is known of the patient; a patient of whom another
        thing is known counts as another one. The set that is returned is empty or has `least_patients` or more, and
        from each earlier set of the same name it differs by nobody or by `least_patients` or more: of two sums over
        such sets the difference tells of nobody alone. So a few new patients wait; where a few are gone others rest.
        """
        least = self.policy.least_patients

        def change(entries: dict[str, Any]) -> set[str]:
            earlier = [set(items) for items in entries["sets"].get(name, [])]
            kept = settle({_item(patient, told): patient for patient, told in patients.items()}.keys(), earlier, least)
            if kept and kept not in earlier:
                entries["sets"].setdefault(name, []).append(sorted(kept))
            return {patient for patient, told in patients.items() if _item(patient, told) in kept}

        return self._change(change)

    def _change(self, change: Callable[[dict[str, Any]], R]) -> R:
        """Read, change and write the file, alone."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"the ledger's folder cannot be made ({error.strerror})") from error
        with hold_lock(self.path.with_suffix(".lock"), "the hospital's ledger is in use", _PATIENCE_S):
            entries: dict[str, Any] = {
                "version": 1,
                "shares": {},
                "splits": {},
                "sets": {},
                "questions": [],
                "runs": {},
            }
            try:
                before = self.path.read_bytes() if self.path.exists() else b""
                entries |= json.loads(before) if before else {}
                result = change(entries)
            except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
                raise RunError("the hospital's ledger is damaged: put state/ledger.json back from a backup") from error
            after = json.dumps(entries, separators=(",", ":"), sort_keys=True).encode()
            if after != before:
                replace_file(self.path, after, "the hospital's ledger", durable=True)
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
