"""Labels of a case, and the named rules that derive the subtype from receptors. A study uses one rule and states it.

`st-gallen-2023`: surrogate subtypes from ER, PR, HER2 and Ki-67 with a cut-off of 20 % (St. Gallen International
Consensus). `hr-her2`: hormone receptor and HER2, without Ki-67 (the four groups of I-SPY and Duke). If a receptor is
missing, the subtype is missing too, unless the other receptors determine it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal

SubtypeRule = Literal["st-gallen-2023", "hr-her2"]
SUBTYPES = ("luminal_a", "luminal_b", "her2_enriched", "triple_negative")
KI67_CUT_PERCENT = 20.0


@dataclass(frozen=True, slots=True)
class CaseLabels:
    """Labels of a case; None means missing. They leave the site only as counts and sums.

    `ki67_percent` is the share of stained nuclei, 0 to 100; `density` is BI-RADS' letter, a to d. `tissues` and
    `outlined` say whether masks of breast and fibroglandular tissue, and of a lesion in mammograms, are prepared.
    `other` holds further labels that a task declares.
    """

    er: bool | None = None
    pr: bool | None = None
    her2: bool | None = None
    ki67_percent: float | None = None
    subtype: str | None = None
    malignant: bool | None = None
    density: str | None = None
    tissues: bool = False
    outlined: bool = False
    other: Mapping[str, float] = field(default_factory=dict)

    @property
    def hormone(self) -> bool | None:
        """Hormone receptor status: positive if ER or PR is, negative only if both are known to be negative."""
        if self.er or self.pr:
            return True
        return None if self.er is None or self.pr is None else False

    def value(self, name: str) -> float | None:
        """Value of a binary label (0 or 1) or a number; None if missing."""
        value = getattr(self, name) if name in _FIELDS else self.other.get(name)
        return None if value is None else float(value)


_FIELDS = {item.name for item in fields(CaseLabels)} - {"other", "tissues", "outlined", "subtype", "density"}


def her2_status(score: str | None, fish: bool | None) -> tuple[bool | None, bool]:
    """HER2 status by ASCO/CAP (Wolff 2018): 3+ is positive, 0 and 1+ negative; 2+ is decided by in-situ hybridisation.

    Without a score hybridisation decides, too. Returned are the status, None if missing (2+ without hybridisation is
    missing, never negative), and whether the two contradict each other, in which case the status is missing too.
    """
    if score is None or score == "2+":
        return fish, False
    status = {"0": False, "1+": False, "3+": True}[score]
    return (None, True) if fish is not None and fish != status else (status, False)


def subtype_of(labels: CaseLabels, rule: SubtypeRule) -> str | None:
    """Subtype by a named rule, or None if the known receptors do not determine it.

    `st-gallen-2023` gives luminal_a (ER and PR positive, HER2 negative, Ki-67 below the cut-off), luminal_b (all other
    hormone receptor positive cases), her2_enriched, triple_negative. `hr-her2` gives hr_positive_her2_negative,
    hr_positive_her2_positive, hr_negative_her2_positive, triple_negative.
    """
    hormone, her2 = labels.hormone, labels.her2
    if hormone is None or her2 is None:
        return None
    if not hormone:
        negative = "her2_enriched" if rule == "st-gallen-2023" else "hr_negative_her2_positive"
        return negative if her2 else "triple_negative"
    if rule == "hr-her2":
        return "hr_positive_her2_positive" if her2 else "hr_positive_her2_negative"
    high = labels.ki67_percent is not None and labels.ki67_percent >= KI67_CUT_PERCENT
    if her2 or high or labels.pr is False or labels.er is False:
        return "luminal_b"
    return None if labels.ki67_percent is None or labels.pr is None or labels.er is None else "luminal_a"


def contradicts(subtype: str, labels: CaseLabels) -> bool:
    """Say whether the subtype in a table contradicts the receptors under every rule in use.

    "Luminal A" and "luminal B" mean different things in different datasets: they differ by Ki-67 in St. Gallen and by
    HER2 in MAMA-MIA, where her2_enriched may be hormone receptor positive. Only what all rules exclude contradicts.
    """
    hormone, her2 = labels.hormone, labels.her2
    if subtype == "triple_negative":
        return bool(hormone) or bool(her2)
    if subtype == "her2_enriched":
        return her2 is False
    if hormone is False:
        return True
    low = labels.ki67_percent is not None and labels.ki67_percent < KI67_CUT_PERCENT
    if subtype == "luminal_a":
        return bool(her2)
    return subtype == "luminal_b" and her2 is False and low and bool(labels.er) and bool(labels.pr)


@dataclass(frozen=True, slots=True)
class Label:
    """A column of `cases.csv` that tasks learn from, and its title on pages.

    Its kind is "binary" for words such as yes, positive or 1; "number"; or "classes", of which a case has exactly one.
    """

    name: str
    title: str
    kind: Literal["binary", "number", "classes"] = "binary"
    classes: tuple[str, ...] = ()
    unit: str = ""

    @property
    def counted(self) -> tuple[str, ...]:
        """Names of the counts of cases by class that a site reports."""
        values = {"binary": ("positive", "negative"), "number": ("known",), "classes": self.classes}[self.kind]
        return tuple(f"{self.name}/{value}" for value in (*values, "missing"))

    def counted_as(self, labels: CaseLabels) -> str:
        """Name of the count that a case belongs to, one of `counted`."""
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
DENSITY = Label("density", "Density", "classes", ("a", "b", "c", "d"))
COLUMNS = (SUBTYPE, ER, PR, HER2, MALIGNANT, KI67)
"""Labels that any table can have; a task can declare more."""
SUBTYPE_LABELS = (
    Label("luminal_a", "Luminal A"),
    Label("luminal_b", "Luminal B"),
    Label("her2_enriched", "HER2-enriched"),
    Label("triple_negative", "Triple negative"),
)
"""Each subtype as a binary label against the other three, as scores are evaluated."""
