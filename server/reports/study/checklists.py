"""What two reporting guidelines ask of a study, and where its report answers: `checklists.toml`, with its sources."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import Any

from server.reports.templates import source

_MISSING = "authors: "


@dataclass(frozen=True)
class Item:
    """One item of a guideline: its published number ("7", "12a"), its part of the manuscript, what it asks, and where.

    `where` is "anchor, anchor: what stands there", or "authors: what they must add", or both with "; " between.
    """

    number: str
    section: str
    asks: str
    where: str

    @property
    def answered(self) -> str:
        """By the report alone ("here"), "partly", or by the "authors", of what no software can know."""
        if _MISSING not in self.where:
            return "here"
        return "authors" if self.where.startswith(_MISSING) else "partly"

    @property
    def anchors(self) -> tuple[str, ...]:
        """Anchors of the page that hold the answer; none where only the authors have it."""
        return () if self.answered == "authors" else tuple(self.where.partition(":")[0].split(", "))


def guidelines() -> dict[str, list[Item]]:
    """Items in order: the 44 of CLAIM 2024, and the 27 of TRIPOD+AI with their parts, which are 52 rows."""
    return {
        name: [Item(number, section, **item) for section, items in sections.items() for number, item in items.items()]
        for name, sections in tomllib.loads(source("checklists.toml")).items()
    }


def checklists(anchors: set[str]) -> list[dict[str, Any]]:
    """Each guideline's items with links to the sections of this page that answer them."""
    return [
        {
            "name": name,
            "counts": {kind: sum(item.answered == kind for item in items) for kind in ("here", "partly", "authors")},
            "lines": [
                {
                    "item": item,
                    "links": [anchor for anchor in item.anchors if anchor in anchors],
                    "text": item.where if item.answered == "authors" else item.where.partition(":")[2].strip(),
                }
                for item in items
            ],
        }
        for name, items in guidelines().items()
    ]
