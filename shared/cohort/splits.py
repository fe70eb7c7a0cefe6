"""Splits by patient: all exams and both breasts of a patient are in the same split."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from shared.types import Split

_FEWEST_FOR_ALL = 3


def assign_splits(patient_ids: Sequence[str], *, seed: int, validation: float, test: float) -> dict[str, Split]:
    """Split of each patient; it depends neither on the order of the rows nor on a patient's number of rows.

    `validation` and `test` are shares of the patients, each in [0, 1), their sum below 1. With three or more patients,
    a share above zero has at least one patient; training always has one.
    """
    if not (0 <= validation < 1 and 0 <= test < 1 and validation + test < 1):
        raise ValueError("shares of validation and test must be >= 0 and leave something to train on")
    # The order of hashes depends only on patient and seed, not on rows, platform or version of a library.
    ranked = sorted(
        set(patient_ids),
        key=lambda patient: (hashlib.sha256(f"split|{seed}|{patient}".encode()).hexdigest(), patient),
    )
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
