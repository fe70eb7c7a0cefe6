"""Sites that keep the others waiting: left out after so many rounds in a row, and asked again when they are back.

A site that neither answers nor leaves costs everybody the deadline of every round. What is decided here follows from
the ledgers of the rounds alone, so that a run that is resumed decides as one that was never stopped.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping

from server.run_folder.round_record import SiteEntry

log = logging.getLogger(__name__)

LEFT_OUT = "left out: too often in a row it kept the others waiting"
_LONGEST = 6


class Absences:
    """Who kept the others waiting in how many ledgers in a row.

    After `most` a site is left out of one round, after one more of two, then of four, at most 64; and until it answers
    the question whether it is there.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._late: Counter[str] = Counter()
        self._skipped: Counter[str] = Counter()
        self._there: set[str] = set()

    def take(self, ledger: Mapping[str, SiteEntry]) -> None:
        """Take what became of the sites in a round, or in an evaluation."""
        for name, entry in ledger.items():
            if entry.reason == LEFT_OUT:
                self._skipped[name] += 1
            elif entry.held_up:
                self._late[name] += 1
                self._skipped[name] = 0
                self._there.discard(name)
            elif entry.status != "absent":
                self._late[name] = 0

    def answered(self, names: Iterable[str]) -> None:
        """Sites say that they are there."""
        self._there |= set(names)

    def silent(self) -> list[str]:
        """Sites that have to say that they are there, before they are asked for more."""
        return [name for name, late in self._late.items() if late >= self.most and name not in self._there]

    def left_out(self, name: str) -> bool:
        """Whether a site is not asked now."""
        excess = self._late[name] - self.most
        return excess >= 0 and (self._skipped[name] < 2 ** min(excess, _LONGEST) or name not in self._there)


def left_out_entry() -> SiteEntry:
    """The line of such a site in a ledger."""
    return SiteEntry("absent", LEFT_OUT, attempts=0)
