"""Splits by patient: every exam and both breasts of a patient fall on one side."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from shared.errors import SiteError
from shared.types import Split

_FEWEST_FOR_ALL = 3


def assign_splits(patient_ids: Sequence[str], *, seed: int, validation: float, test: float) -> dict[str, Split]:
    """Split of each patient, the same whatever the order of rows and however many rows a patient has.

    Parameters
    ----------
    patient_ids
        One a row; repeated for a patient of several rows.
    seed
        Another seed gives another split.
    validation, test
        Shares of the patients, each in [0, 1), together below 1. A share that is not zero gets at least one patient
        where there are three or more; training always keeps one.

    """
    if not (0 <= validation < 1 and 0 <= test < 1 and validation + test < 1):
        raise ValueError("shares of validation and test must be >= 0 and leave something to train on")
    # A hash's order depends on the patient and the seed alone, not on rows, platform or library version.
    ranked = sorted(set(patient_ids), key=lambda patient: (_rank(patient, seed), patient))
    count = len(ranked)
    sizes = {"test": round(count * test), "validation": round(count * validation)}
    if count >= _FEWEST_FOR_ALL:
        sizes = {
            "test": max(sizes["test"], 1 if test else 0),
            "validation": max(sizes["validation"], 1 if validation else 0),
        }
    while sum(sizes.values()) >= count and any(sizes.values()):
        sizes[max(sizes, key=lambda name: sizes[name])] -= 1
    edges = sizes["test"], sizes["test"] + sizes["validation"]
    return {
        patient: "test" if place < edges[0] else "validation" if place < edges[1] else "train"
        for place, patient in enumerate(ranked)
    }


def _rank(patient: str, seed: int) -> str:
    return hashlib.sha256(f"split|{seed}|{patient}".encode()).hexdigest()


def check_no_overlap(train_ids: Iterable[str], test_ids: Iterable[str]) -> None:
    """Refuse a patient on both sides, whether by two exams or two breasts.

    Raises
    ------
    SiteError
        Says how many patients, never which.

    """
    both = set(train_ids) & set(test_ids)
    if both:
        raise SiteError(
            f"{len(both)} patients are both in training and in test data: their images would be recognised, not "
            "judged. Split by patient, not by exam, breast or image",
        )
