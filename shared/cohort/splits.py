"""Splits by patient: all exams and both breasts of a patient are in the same split."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from shared.cohort.labels import Label
from shared.cohort.preflight import Case
from shared.types import Split

_FEWEST_FOR_ALL = 3


def assign_splits(
    patient_ids: Sequence[str],
    *,
    seed: int,
    validation: float,
    test: float,
    classes: Mapping[str, str] | None = None,
) -> dict[str, Split]:
    """Split of each patient; it depends neither on the order of the rows nor on a patient's number of rows.

    `validation` and `test` are shares of the patients, each in [0, 1), their sum below 1. With three or more patients,
    a share above zero has at least one patient; training always has one. With a class for each patient, every split has
    about its share of each class.
    """
    if not (0 <= validation < 1 and 0 <= test < 1 and validation + test < 1):
        raise ValueError("shares of validation and test must be >= 0 and leave something to train on")
    # The order of hashes depends only on patient and seed, not on rows, platform or version of a library.
    ranked = sorted(
        set(patient_ids),
        key=lambda patient: (hashlib.sha256(f"split|{seed}|{patient}".encode()).hexdigest(), patient),
    )
    # Each class is spread evenly over the order that is cut below; of a single class the order stays as it is.
    groups: dict[str, list[str]] = {}
    for patient in ranked:
        groups.setdefault((classes or {}).get(patient, ""), []).append(patient)
    places = {one: (at + 0.5) / len(group) for group in groups.values() for at, one in enumerate(group)}
    ranked.sort(key=places.__getitem__)
    count = len(ranked)
    sizes = {"test": round(count * test), "validation": round(count * validation)}
    if count >= _FEWEST_FOR_ALL:
        sizes = {"test": max(sizes["test"], bool(test)), "validation": max(sizes["validation"], bool(validation))}
    while sum(sizes.values()) >= count and any(sizes.values()):
        sizes[max(sizes, key=lambda name: sizes[name])] -= 1
    edges = sizes["test"], sizes["test"] + sizes["validation"]
    return {
        patient: "test" if place < edges[0] else "validation" if place < edges[1] else "train"
        for place, patient in enumerate(ranked)
    }


def patient_classes(cases: Sequence[Case], labels: Sequence[Label]) -> dict[str, str]:
    """Class of each patient by some labels; of a patient with several cases all their classes."""
    classes: dict[str, set[str]] = {}
    for case in cases:
        own = classes.setdefault(case.row.patient_id, set())
        own.update(label.counted_as(case.row.labels) for label in labels)
    return {patient: " ".join(sorted(own)) for patient, own in classes.items()}
