"""Label rules, each by name: a study never mixes them and says which one it used.

`st-gallen-2023`: surrogate subtypes by ER, PR, HER2 and Ki-67 cut at 20 % (St. Gallen International Consensus).
`hr-her2`: hormone receptor by HER2, which needs no Ki-67 (the four groups of I-SPY and Duke).
A missing receptor gives a missing subtype unless the others settle it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal

SubtypeRule = Literal["st-gallen-2023", "hr-her2"]
SUBTYPES = ("luminal_a", "luminal_b", "her2_enriched", "triple_negative")
KI67_CUT_PERCENT = 20.0

_SCORES: dict[str, int] = {"0": 0, "1+": 1, "2+": 2, "3+": 3}
_POSITIVE_SCORE = 3
_EQUIVOCAL_SCORE = 2


@dataclass(frozen=True, slots=True)
class Receptors:
    """Receptor status of one lesion; None is missing. `ki67_percent` is the share of stained nuclei, 0 to 100."""

    er: bool | None
    pr: bool | None
    her2: bool | None
    ki67_percent: float | None

    @property
    def hormone(self) -> bool | None:
        """Positive when either of ER and PR is, negative only when both are known to be."""
        if self.er or self.pr:
            return True
        return None if self.er is None or self.pr is None else False


def her2_status(score: str | None, fish: bool | None) -> tuple[bool | None, bool]:
    """HER2 by ASCO/CAP (Wolff 2018): 3+ is positive, 0 and 1+ negative, 2+ whatever in-situ hybridisation says.

    Parameters
    ----------
    score
        `0`, `1+`, `2+`, `3+`; None when immunohistochemistry is missing.
    fish
        In-situ hybridisation; None when it was not done.

    Returns
    -------
    The status, None when missing (2+ without hybridisation is missing, never negative), and whether score and
    hybridisation contradict each other, in which case the status is missing too.

    """
    number = None if score is None else _SCORES[score]
    if number is None or number == _EQUIVOCAL_SCORE:
        return fish, False
    status = number == _POSITIVE_SCORE
    return (None, True) if fish is not None and fish != status else (status, False)


def subtype_of(receptors: Receptors, rule: SubtypeRule) -> str | None:
    """Subtype by a named rule, None when the receptors known do not settle it.

    `st-gallen-2023` gives luminal_a (ER and PR positive, HER2 negative, Ki-67 below the cut), luminal_b (other hormone
    positive ones), her2_enriched, triple_negative. `hr-her2` gives hr_positive_her2_negative,
    hr_positive_her2_positive, hr_negative_her2_positive, triple_negative.
    """
    hormone, her2 = receptors.hormone, receptors.her2
    if hormone is None or her2 is None:
        return None
    if not hormone:
        negative = "her2_enriched" if rule == "st-gallen-2023" else "hr_negative_her2_positive"
        return negative if her2 else "triple_negative"
    if rule == "hr-her2":
        return "hr_positive_her2_positive" if her2 else "hr_positive_her2_negative"
    if her2 or receptors.pr is False or receptors.er is False:
        return "luminal_b"
    if receptors.ki67_percent is None or receptors.pr is None or receptors.er is None:
        high = receptors.ki67_percent is not None and receptors.ki67_percent >= KI67_CUT_PERCENT
        return "luminal_b" if high else None
    return "luminal_b" if receptors.ki67_percent >= KI67_CUT_PERCENT else "luminal_a"


def contradicts(subtype: str, receptors: Receptors) -> bool:
    """Say whether a table's subtype cannot be true of its receptors under any rule in use.

    "Luminal A/B" means different things in different sets (by Ki-67 in St. Gallen, by HER2 in MAMA-MIA, where
    her2_enriched may be hormone positive): only what every reading excludes is a contradiction.
    """
    hormone, her2 = receptors.hormone, receptors.her2
    if subtype == "triple_negative":
        return bool(hormone) or bool(her2)
    if subtype == "her2_enriched":
        return her2 is False
    if hormone is False:
        return True
    low = receptors.ki67_percent is not None and receptors.ki67_percent < KI67_CUT_PERCENT
    if subtype == "luminal_a":
        return bool(her2)
    return subtype == "luminal_b" and her2 is False and low and bool(receptors.er) and bool(receptors.pr)


@dataclass(frozen=True, slots=True)
class CaseLabels:
    """What a network may learn of a case; None is missing. Labels never leave the site but as counts and sums.

    `tissues` says that reference masks of breast and fibroglandular tissue are prepared; `other` holds labels that a
    task declares beyond these columns.
    """

    er: bool | None = None
    pr: bool | None = None
    her2: bool | None = None
    ki67_percent: float | None = None
    subtype: str | None = None
    malignant: bool | None = None
    tissues: bool = False
    other: Mapping[str, float] = field(default_factory=dict)

    def value(self, name: str) -> float | None:
        """A binary label (0 or 1) or a number; None where it is missing."""
        value = getattr(self, name) if name in _FIELDS else self.other.get(name)
        return None if value is None else float(value)


_FIELDS = {item.name for item in fields(CaseLabels)} - {"other", "tissues", "subtype"}


@dataclass(frozen=True, slots=True)
class Label:
    """A column of `cases.csv` that a task learns from.

    Attributes
    ----------
    name, title
        The column, and the label as pages write it.
    kind
        "binary": words such as yes, positive, 1; "number"; or "classes" of which a case has one.
    classes
        The classes, where it has some.
    unit
        Of a number.

    """

    name: str
    title: str
    kind: Literal["binary", "number", "classes"] = "binary"
    classes: tuple[str, ...] = ()
    unit: str = ""

    @property
    def counted(self) -> tuple[str, ...]:
        """Names under which a site counts its cases by class."""
        values = {"binary": ("positive", "negative"), "number": ("known",), "classes": self.classes}[self.kind]
        return tuple(f"{self.name}/{value}" for value in (*values, "missing"))

    def counted_as(self, labels: CaseLabels) -> str:
        """The one of `counted` that a case belongs to."""
        if self.kind == "classes":
            own = getattr(labels, self.name, None)
            return f"{self.name}/{own if own in self.classes else 'missing'}"
        value = labels.value(self.name)
        known = "known" if self.kind == "number" else "positive" if value else "negative"
        return f"{self.name}/{'missing' if value is None else known}"


ER, PR, HER2 = Label("er", "ER"), Label("pr", "PR"), Label("her2", "HER2")
MALIGNANT = Label("malignant", "Malignant")
KI67 = Label("ki67_percent", "Ki-67", "number", unit="%")
SUBTYPE = Label("subtype", "Subtype", "classes", SUBTYPES)
COLUMNS = (SUBTYPE, ER, PR, HER2, MALIGNANT, KI67)
"""The labels that every table may have; a task may declare more."""
SUBTYPE_LABELS = (
    Label("luminal_a", "Luminal A"),
    Label("luminal_b", "Luminal B"),
    Label("her2_enriched", "HER2-enriched"),
    Label("triple_negative", "Triple negative"),
)
"""Each subtype against the other three, as scores answer it."""
