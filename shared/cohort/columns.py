"""Columns of a table: which are read, and what those that are not may have been meant for."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from shared.cohort.vocabulary import SYNONYMS


@dataclass(frozen=True, slots=True)
class UnusedColumn:
    """A column that is kept and not read.

    `place` counts the header's named columns from 1. `near` is the known column that its name resembles. `name` is the
    table's own word: for the site's own eyes, in no message.
    """

    place: int
    near: str | None
    name: str = field(repr=False)


def unused_columns(columns: Sequence[str], known: Sequence[str], labels: Collection[str]) -> list[UnusedColumn]:
    """Columns that are neither known nor of a label that a run's tasks declare."""
    absent = [name for name in known if name not in columns]
    return [
        UnusedColumn(place, _nearest(name, absent), name)
        for place, name in enumerate(columns, start=1)
        if name not in known and name not in labels
    ]


def _nearest(name: str, absent: Sequence[str]) -> str | None:
    """The known column, of those that the table lacks, that a name is another spelling of, or shares a word with."""
    plain = _squeezed(name)
    for item in absent:
        if _squeezed(item) == plain or SYNONYMS.get(name) == item or SYNONYMS.get(plain) == item:
            return item
    near = difflib.get_close_matches(name, absent, n=1, cutoff=0.8)
    near += [item for item in absent if _words(item) & _words(name)]
    # `ki_67`, `her_2_status`: written apart. Short names would be in any word.
    near += [item for item in absent for part in (_squeezed(item.split("_")[0]),) if len(part) > 3 and part in plain]  # noqa: PLR2004
    near += [item for word in _words(name) if (item := SYNONYMS.get(word, "")) in absent]
    return near[0] if near else None


def _squeezed(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.lower())


def _words(column: str) -> set[str]:
    return set(re.findall("[a-z]+[0-9]*", column.lower()))
