"""Targets, truths and scores of receptors and Ki-67, shared by the two tasks that predict them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from shared.cohort.labels import ER, HER2, KI67, PR, CaseLabels
from shared.config.run_config import RunConfig
from shared.metrics.paired_numbers import NumberPair
from shared.models.spatial_multitask import KI67_UNIT
from shared.tasks.classification import Scores
from shared.tasks.task import OWN

LABELS = (ER, PR, HER2)
RECEPTORS = tuple(label.name for label in LABELS)
KI67_PAIR = NumberPair("{}_ki67", "Ki-67", "%", (f"score_{KI67.name}", f"truth_{KI67.name}"))


def target(labels: CaseLabels, config: RunConfig) -> tuple[tuple[float, ...], str]:
    """ER, PR, HER2 as 0 or 1 and NaN where missing; balanced by ER and HER2, the two that treatment turns on."""
    del config
    values = [getattr(labels, name) for name in RECEPTORS]
    if all(value is None for value in values):
        return (), ""
    known = f"er {labels.er}, her2 {labels.her2}"
    return tuple(math.nan if value is None else float(value) for value in values), known


def target_with_ki67(labels: CaseLabels, config: RunConfig) -> tuple[tuple[float, ...], str]:
    """As `target`, with Ki-67 in units of 10 percentage points behind it."""
    values, known = target(labels, config)
    if labels.ki67_percent is None:
        return ((*values, math.nan), known) if values else ((), "")
    return (*(values or (math.nan,) * 3), labels.ki67_percent / KI67_UNIT), known


def truths(labels: CaseLabels, config: RunConfig) -> Mapping[str, float]:
    """Receptors that are known."""
    del config
    return {name: value for name in RECEPTORS if (value := labels.value(name)) is not None}


def truths_with_ki67(labels: CaseLabels, config: RunConfig) -> Mapping[str, float]:
    """Receptors that are known, and Ki-67 in percent."""
    known = truths(labels, config)
    return dict(known) if labels.ki67_percent is None else {**known, KI67.name: labels.ki67_percent}


def scores(outputs: Sequence[Tensor]) -> list[Scores]:
    """Probabilities of ER, PR and HER2 from logits `(n, 1)`; where there is a fourth output, Ki-67 in percent."""
    table = {name: torch.sigmoid(part.float())[:, 0] for name, part in zip(RECEPTORS, outputs, strict=False)}
    if len(outputs) > len(RECEPTORS):
        table[KI67.name] = (KI67_UNIT * outputs[3].float()[:, 0]).clamp(0.0, 100.0)
    return [{OWN: {name: float(values[row]) for name, values in table.items()}} for row in range(len(outputs[0]))]
