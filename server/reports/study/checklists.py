"""What two reporting guidelines ask of a study like this, and where its report answers.

CLAIM 2024 (Tejani et al., Radiology: Artificial Intelligence 2024;6(4):e240300) is for imaging AI, TRIPOD+AI (Collins
et al., BMJ 2024;385:e078378) for prediction models. The items are in this project's own words: the published ones bind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from server.reports.study.claim import CLAIM
from server.reports.study.tripod import TRIPOD_AI

Answered = Literal["here", "partly", "authors"]
ANCHORS = (
    *("design", "flow", "table-1", "forest", "matrix", "learning", "roc", "agreement", "subgroups", "cases"),
    *("provenance", "limits", "model-card"),
)
_MISSING = "authors: "


@dataclass(frozen=True)
class Item:
    """One item of a guideline.

    Attributes
    ----------
    number
        As published: "7", "12a".
    section
        Part of the manuscript it belongs to.
    asks
        What it asks, in short.
    answered
        "here": by the report alone. "partly": the report has some of it. "authors": no software can know it.
    where
        "anchor, anchor: what stands there", or "authors: what they must add", or both with "; " between.

    """

    number: str
    section: str
    asks: str
    answered: Answered
    where: str

    @property
    def anchors(self) -> tuple[str, ...]:
        """Anchors of the page that hold the answer; none where only the authors have it."""
        return () if self.answered == "authors" else tuple(self.where.partition(":")[0].split(", "))


def claim_items() -> tuple[Item, ...]:
    """The 44 items of CLAIM 2024, in order."""
    return _items(CLAIM)


def tripod_items() -> tuple[Item, ...]:
    """The 27 items of TRIPOD+AI with their parts, 52 rows in order."""
    return _items(TRIPOD_AI)


def answered_counts(items: Iterable[Item]) -> dict[Answered, int]:
    """How many items the report answers, answers partly, and leaves to the authors."""
    counts = Counter(item.answered for item in items)
    return {"here": counts["here"], "partly": counts["partly"], "authors": counts["authors"]}


def _items(sections: dict[str, tuple[tuple[str, str, str], ...]]) -> tuple[Item, ...]:
    return tuple(
        Item(number, section, asks, _answered(where), where)
        for section, rows in sections.items()
        for number, asks, where in rows
    )


def _answered(where: str) -> Answered:
    """An answer that names no task for the authors is whole; one that names nothing else is theirs."""
    if _MISSING not in where:
        return "here"
    return "authors" if where.startswith(_MISSING) else "partly"
