"""Names of arms in results and per-case tables: who answered, in which reading."""

from __future__ import annotations

FEDERATED = "federated"
POOLED = "pooled"
LOCAL = "local"
ENSEMBLE = "ensemble"
ORACLE = "oracle"
"""What the best possible classifier would reach on a phantom; no case is asked."""
FUSION = "fusion"
"""A task's answers averaged with its rival's."""
ASYMMETRY = "asymmetry"
"""A breast's answer against the other breast's, of one model."""
BOTH = "both"
"""First part of the arms on breasts that models of two modalities answered."""
END_TO_END = "federated:end-to-end"
"""A classifier read in the outline that the federation itself predicted: DICOM in, answer out."""


def reading_arm(reading: str) -> str:
    """The arm of a part of the federated network, such as a branch."""
    return f"{FEDERATED}:{reading}" if reading else FEDERATED


def both_arm(other: str, who: str) -> str:
    """Who answered, a modality or `fusion`, on the breasts that a task shares with the other, of another modality."""
    return f"{BOTH}:{other}:{who}"


def local_arm(site: str) -> str:
    """The arm of a site that trained alone."""
    return f"{LOCAL}:{site}"


def is_local(arm: str) -> bool:
    """Whether an arm is one site's own model."""
    return arm.startswith(f"{LOCAL}:")
