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
_OF_A_RUN = "31 days under one configuration"
R = TypeVar("R")


class _Entries(Section):
    """The file: role and shares of the first run, splits by patient, sets by name, the latest time that was seen.

    Questions: when, about which run; plans: when, of which run and modality, the plan.
    """

    version: Literal[1] = 1
    role: Literal["training", "external", ""] = ""
    shares: SplitConfig | None = None
    splits: dict[str, Split] = Field(default_factory=dict)
    sets: dict[str, list[list[str]]] = Field(default_factory=dict)
    questions: list[tuple[AwareDatetime, str]] = Field(default_factory=list)
    plans: list[tuple[AwareDatetime, str, str]] = Field(default_factory=list)
    latest: AwareDatetime | None = None


class Ledger:
    """The ledger in the file at `path`, made when needed; several processes may use it at once."""

    def __init__(self, path: Path, policy: Policy, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.path = path
        self.policy = policy
        self._now = now

    def count_question(self, run: str, needed: int | None = None) -> None:
        """Count a question before it is answered; also one whose answer is lost on the way has been answered.

        `run` is the hash of the run's configuration: its name is the server's to choose. `needed` is how many questions
        such a run asks.

        Raises
        ------
        ConfigError
            The policy's budget for the configuration or for 31 days is spent.
        RunError
            The ledger is damaged or cannot be written: then nothing is answered.

        """

        def change(entries: _Entries) -> tuple[_Entries, None]:
            now, behind = self._time(entries)
            recent = [(at, about) for at, about in entries.questions if now - at < _MONTH]
            own, policy = sum(about == run for _, about in recent), self.policy
            worth = policy.questions_per_run if needed is None else policy.runs_per_month * needed
            for asked, most, of in (
                (own, min(worth, policy.questions_per_run), _OF_A_RUN),
                (len(recent), policy.questions_per_month, "31 days"),
            ):
                if asked >= most:
                    spent = f"this hospital's policy allows {most} questions in {of}, and they are spent"
                    raise ConfigError(f"{spent}{behind}")
            return entries.model_copy(update={"questions": [*recent, (now, run)], "latest": now}), None

        self._change(change)

    def take_plan(self, run: str, modality: str, plan: str, check: Callable[[], None] = lambda: None) -> None:
        """Take a preprocessing plan, by its hash, in runs of a configuration; `check` is called before a new one.

        A plan decides what is computed of the images, and is approved by nobody: so there are few of them.
        `ConfigError` where in 31 days the configuration had as many as the policy's `runs_per_month`, or all together
        as many as its `plans_per_month`.
        """
        about = f"{run}/{modality}"

        def change(entries: _Entries) -> tuple[_Entries, None]:
            now, behind = self._time(entries)
            recent = [item for item in entries.plans if now - item[0] < _MONTH]
            own = {known for _, of, known in recent if of == about}
            if plan in own:
                return entries, None
            for taken, most, of in (
                (len(own), self.policy.runs_per_month, _OF_A_RUN),
                (len({known for _, _, known in recent} - {plan}), self.policy.plans_per_month, "31 days"),
            ):
                if taken >= most:
                    raise ConfigError(
                        f"this hospital's policy allows {most} preprocessing plans in {of}: resume a run whose plan it "
                        f"has taken, or ask its data officer{behind}"
                    )
            check()
            return entries.model_copy(update={"plans": [*recent, (now, about, plan)], "latest": now}), None

        self._change(change)

    def take_role(self, role: Literal["training", "external"]) -> None:
        """Take a role in a run; `ConfigError` for another than the first run's, unless the policy allows both.

        The sets of the two roles differ by a few patients where splits are small, and their sums with them.
        """

        def change(entries: _Entries) -> tuple[_Entries, None]:
            if entries.role not in {"", role} and not self.policy.both_roles:
                raise ConfigError(
                    f"this hospital took part as {entries.role} centre before, and its policy has no both_roles"
                )
            return entries.model_copy(update={"role": entries.role or role}), None

        self._change(change)

    def splits(
        self, patients: set[str], shares: SplitConfig, classes: Mapping[str, str] | None = None
    ) -> dict[str, Split]:
        """Split of each patient (pseudonym), drawn once by the first call's shares; those of later runs do nothing.

        That first draw is by `classes`, see `assign_splits`. Patients who come later are drawn by those first shares,
        too, each alone: how often is asked changes nothing. The draw depends on pseudonyms, and so on the site's key.
        """

        def change(entries: _Entries) -> tuple[_Entries, dict[str, Split]]:
            first, new = entries.shares or shares, sorted(patients - entries.splits.keys())
            if entries.splits:
                known = entries.splits | {patient: _drawn_alone(patient, first) for patient in new}
            else:
                known = dict(assign_splits(new, seed=0, validation=first.validation, test=first.test, classes=classes))
            update = {"shares": first, "splits": known}
            return entries.model_copy(update=update), {patient: known[patient] for patient in patients}

        return self._change(change)

    def admit(self, name: str, patients: Mapping[str, str], needed: int = 0) -> set[str]:
        """Those of the patients that an answer about the set `name` may stand for.

        `patients` are the pseudonyms with a text each of all that is known of the patient; a patient of whom another
        thing is known counts as another one. The set that is returned is empty or has `least_patients` or more, and
        from each earlier set of the same name it differs by nobody or by `least_patients` or more: of two sums over
        such sets the difference tells of nobody alone. So a few new patients wait; where a few are gone others rest.
        Fewer than `needed` are none, and no set is kept of what is not answered.
        """
        least = self.policy.least_patients

        def change(entries: _Entries) -> tuple[_Entries, set[str]]:
            items = {patient: _item(patient, told) for patient, told in patients.items()}
            earlier = [set(one) for one in entries.sets.get(name, [])]
            kept = settle(items.values(), earlier, least)
            kept = kept if len(kept) >= needed else set()
            if kept and kept not in earlier:
                earlier.append(kept)
            sets = entries.sets | {name: [sorted(one) for one in earlier]}
            return entries.model_copy(update={"sets": sets}), {patient for patient in items if items[patient] in kept}

        return self._change(change)

    def _time(self, entries: _Entries) -> tuple[datetime, str]:
        """The time, never before the latest that was seen; and what to do where the clock is a day behind that.

        So a clock that goes forward and back clears a budget once, and the next one comes that much later.
        """
        clock = self._now()
        now = max(clock, entries.latest or clock)
        told = f" (its ledger has seen {now:%Y-%m-%d}: if that clock was wrong, correct 'latest' in state/ledger.json)"
        return now, told if now - clock > timedelta(days=1) else ""

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


def _drawn_alone(patient: str, shares: SplitConfig) -> Split:
    """Split of a patient who came after the first draw."""
    place = int(hashlib.sha256(f"split|{patient}".encode()).hexdigest(), 16) / 16**64
    return "test" if place < shares.test else "validation" if place < shares.test + shares.validation else "train"


def settle(items: Collection[str], earlier: Collection[set[str]], least: int) -> set[str]:
    """The largest part of the items, by a simple rule, that differs from every earlier set by nobody or `least`.

    An item is `patient:what is known of him`. Patients who came, went or were corrected count once each; and those who
    came or went are nobody or `least` without the corrected ones, too: some sums do not depend on what was corrected.
    Where the difference is smaller, items that the earlier set lacks wait, and as many of its others rest, in the
    order of their hashes, as are missing to `least`. Of so many who are known anew, as after another export of all
    images, only those wait who came. Fewer than `least` items are none.
    """
    kept = set(items)
    while close := next((one for one in earlier if _is_close(kept, one, least)), None):
        before, now = _patients(close), _patients(kept)
        anew = _patients(kept - close) & before
        common = {item for item in kept if item.partition(":")[0] in before} if len(anew) >= least else kept & close
        gone = len(before - now) if len(anew) >= least else len(close - kept)
        kept = set(sorted(common)[max(0, least - gone) :]) if gone else common
    return kept if len(kept) >= least else set()


def _is_close(one: set[str], other: set[str], least: int) -> bool:
    """Whether two sets differ by fewer than `least` patients, but by some."""
    changed = len(_patients(one ^ other))
    came_or_went = len(_patients(one) ^ _patients(other))
    return 0 < changed < least or 0 < came_or_went < least


def _patients(items: set[str]) -> set[str]:
    return {item.partition(":")[0] for item in items}


def _item(patient: str, told: str) -> str:
    who, what = (hashlib.sha256(text.encode()).hexdigest()[:24] for text in (patient, f"{patient}|{told}"))
    return f"{who}:{what}"
