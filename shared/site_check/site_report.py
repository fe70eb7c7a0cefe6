"""A site folder checked: its table and every case, as one record for the terminal, the page and the JSON."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from shared.cohort.labels import Label
from shared.cohort.manifest import KNOWN, REQUIRED, TABLE_NAME, CaseRow
from shared.cohort.preflight import Cohort, open_cohort
from shared.cohort.table import read_table
from shared.cohort.table_summary import TableSummary, summarise
from shared.modalities import MODALITIES, modality_named
from shared.modalities.checked_case import CheckedCase
from shared.site_check.memory import check_case, forget_others, memory_of, name_of, write_who_is_who
from shared.site_check.reasons import explanation, remedy
from shared.tasks import TASKS, task_named

FORMAT = 1
ALL_USABLE, SOME_LEFT_OUT, NONE_USABLE = 0, 3, 4
_TISSUES = (
    "Masks of breast and fibroglandular tissue cannot be used ({}): left out of tasks that need masks of tissues; "
    "other tasks use the case."
)
_UNITS = {"t": "T", "mm2": "mm²"}


@dataclass(frozen=True, slots=True)
class CaseReport:
    """One row: what was read of it, and whether a run can use it."""

    row: int
    side: str
    modality: str
    seen: CheckedCase
    labels: Mapping[str, str]

    @property
    def usable(self) -> bool:
        """Whether a run would take it."""
        return self.seen.reason is None

    @property
    def sentence(self) -> str:
        """Why exactly it is left out, in the reader's own words."""
        detail = self.seen.detail
        return detail and f"{detail[0].upper()}{detail[1:]}{'' if detail.endswith(('?', '.')) else '.'}"

    def facts(self) -> list[tuple[str, str]]:
        """Facts as people read them: name with unit, and value."""
        return [
            (_title(name), written(value, ", " if name.endswith("_s") else " x "))
            for name, value in self.seen.facts.items()
            if value is not None
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without pictures and without anything that names the patient."""
        seen = self.seen
        told = {"explanation": explanation(seen.reason), "remedy": remedy(seen.reason)} if seen.reason else {}
        return {
            "row": self.row,
            "side": self.side,
            "modality": self.modality,
            "usable": self.usable,
            "reason": seen.reason,
            "detail": seen.detail,
            **told,
            "tissue_masks": seen.tissue_fault,
            "series": [asdict(item) for item in seen.series],
            "facts": seen.facts,
            "notes": seen.notes,
            "labels": dict(self.labels),
        }


@dataclass(frozen=True, slots=True)
class SiteReport:
    """A site folder at a glance; `known` cases were unchanged since the last check, and not read again."""

    name: str
    phantom: bool
    table: TableSummary
    cases: tuple[CaseReport, ...]
    flags: Mapping[str, Sequence[int]]
    known: int
    who: Path = field(repr=False)

    @property
    def left_out(self) -> list[CaseReport]:
        """Cases that a run would leave out."""
        return [case for case in self.cases if not case.usable]

    def by_reason(self) -> dict[str, list[CaseReport]]:
        """Cases left out, the most frequent reason first."""
        groups: dict[str, list[CaseReport]] = defaultdict(list)
        for case in self.left_out:
            groups[str(case.seen.reason)].append(case)
        return dict(sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])))

    def notes(self) -> dict[str, list[int]]:
        """Rows of each sentence on what was guessed or is doubtful, of cases that are used and of the table."""
        rows: dict[str, list[int]] = defaultdict(list)
        for case in self.cases:
            for note in case.seen.notes if case.usable else ():
                rows[note].append(case.row)
            if case.usable and case.seen.tissue_fault:
                rows[_TISSUES.format(case.seen.tissue_fault)].append(case.row)
        return {**rows, **{message: list(own) for message, own in self.flags.items()}}

    def severity(self, most_left_out: float = 0.0) -> int:
        """Exit code: all is usable; some is left out or one patient is in two splits; nothing is usable."""
        left_out = len(self.left_out)
        if left_out == len(self.cases):
            return NONE_USABLE
        leaks = any(item.kind == "leak" for item in self.table.doubts)
        return SOME_LEFT_OUT if leaks or left_out > most_left_out * len(self.cases) else ALL_USABLE

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "format": FORMAT,
            "program": version("fedbreast"),
            "site": self.name,
            "phantom": self.phantom,
            "cases": len(self.cases),
            "usable": len(self.cases) - len(self.left_out),
            "left_out": {reason: [case.row for case in own] for reason, own in self.by_reason().items()},
            "notes": self.notes(),
            "table": asdict(self.table),
            "exams": [case.to_dict() for case in self.cases],
        }


def task_labels() -> tuple[Label, ...]:
    """What all tasks learn from: columns that a run may read."""
    return tuple(dict.fromkeys(label for name in TASKS for label in task_named(name).labels))


def check_site(folder: Path, on_progress: Callable[[int, int], None]) -> SiteReport:
    """Check a site folder, case by case; what an earlier call has finished is not read again.

    `on_progress` is told (cases done, cases in all). Raises as `open_cohort`, and `RunError` for a full disk.
    """
    labels = task_labels()
    cohort = open_cohort(folder, [(modality_named(name).locate, frozenset()) for name in MODALITIES], labels)
    memory = memory_of(cohort.folder.path)
    known, seen = 0, dict[int, CheckedCase]()
    on_progress(0, len(cohort.cases))
    for done, case in enumerate(cohort.cases, start=1):
        known += (memory / name_of(case)).is_dir()
        seen[case.row.row] = check_case(case, memory)
        on_progress(done, len(cohort.cases))
    forget_others(memory, cohort.cases)
    return _report(cohort, labels, seen, known)


def _report(cohort: Cohort, labels: Sequence[Label], seen: dict[int, CheckedCase], known: int) -> SiteReport:
    left_out = {item.row: item.reason for item in cohort.exclusions}
    rows: dict[int, CaseRow] = {row.row: row for row in cohort.rows if row.row not in cohort.others}
    for number, reason in left_out.items():
        seen.setdefault(number, CheckedCase(reason=reason))
    names = [label.name for label in labels]
    cases = tuple(
        CaseReport(number, row.side, row.modality, seen[number], _labels(row, labels))
        for number, row in sorted(rows.items())
    )
    usable = {case.row for case in cases if case.usable}
    identity = {number: item.identity for number, item in seen.items()}
    table = read_table(cohort.folder.path / TABLE_NAME, known=KNOWN, required=REQUIRED)
    flags: dict[str, list[int]] = defaultdict(list)
    for flag in (flag for flag in cohort.flags if flag.row > 1):  # the header's: `table_summary.unread_columns`
        flags[f"{flag.message[0].upper()}{flag.message[1:]}."].append(flag.row)
    if without := [case.row for case in cases if case.usable and not rows[case.row].mask]:
        sound = sum(rows[number].labels.malignant is False for number in without)
        which = f" ({sound} of them not malignant)" if sound else ""
        flags[f"Without a lesion's mask: left out of tasks that outline or read lesions{which}."] = without
    keys = {case.row.row: case.key for case in cohort.cases}
    who = write_who_is_who(memory_of(cohort.folder.path), cohort.rows, keys, table.columns)
    summary = summarise(table, list(rows.values()), usable, identity, names)
    return SiteReport(cohort.folder.name, cohort.folder.phantom, summary, cases, flags, known, who)


def _labels(row: CaseRow, labels: Sequence[Label]) -> dict[str, str]:
    """Labels that are known of a case, in words; numbers as they are."""
    known: dict[str, str] = {}
    for label in labels:
        own = row.labels
        value = getattr(own, label.name, None) if label.kind == "classes" else own.value(label.name)
        if value is not None and label.name not in known:
            word = {0.0: "negative", 1.0: "positive"}.get(value) if label.kind == "binary" else None
            known[label.name] = word or written(value)
    return known


def _title(name: str) -> str:
    """`breast_box_mm` becomes `breast box, mm`."""
    what, _, unit = name.rpartition("_")
    if not re.fullmatch("s|mm|mm2|ml|t", unit) or not what:
        return name.replace("_", " ")
    return f"{what.replace('_', ' ')}, {_UNITS.get(unit, unit)}"


def written(value: object, joint: str = " x ") -> str:
    """A fact as people read it."""
    if isinstance(value, list | tuple):
        return joint.join(map(written, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def ranges(rows: Sequence[int], most: int = 8) -> str:
    """Numbers of rows in few words: `2-5, 9, 12 and 31 more`."""
    parts: list[list[int]] = []
    for row in sorted(set(rows)):
        if parts and row == parts[-1][1] + 1:
            parts[-1][1] = row
        else:
            parts.append([row, row])
    shown = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in parts[:most])
    rest = sum(last - first + 1 for first, last in parts[most:])
    return shown + (f" and {rest} more" if rest else "")
