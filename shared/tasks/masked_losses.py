"""Losses over labels that may be missing.

Most public breast-MRI sets have no Ki-67, and some hospitals no HER2. A missing label is NaN in the target and is left
out of the loss, never imputed. Cases are taken out before the loss is computed: multiplying by 0 afterwards would still
let a NaN through.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.models.spatial_multitask import KI67_UNIT, MARKERS


def masked_binary(logits: Tensor, target: Tensor) -> Tensor:
    """Mean binary cross-entropy of logits `(n, 1)` over the cases whose target `(n,)` is 0 or 1; NaN is unlabelled.

    Exactly 0, without gradient, where no case is labelled.
    """
    labelled = ~target.isnan()
    known = logits[labelled, 0].float()
    total = F.binary_cross_entropy_with_logits(known, target[labelled].float(), reduction="sum")
    return total / labelled.sum().clamp(min=1)


def masked_huber(output: Tensor, target: Tensor) -> Tensor:
    """Mean Huber loss of outputs `(n, 1)` over the cases whose target `(n,)`, in the output's unit, is no NaN.

    Half the squared error up to 1, then `|error| - 1/2` (Huber 1964). Exactly 0, without gradient, where no case is
    labelled.
    """
    labelled = ~target.isnan()
    total = F.huber_loss(output[labelled, 0].float(), target[labelled].float(), reduction="sum")
    return total / labelled.sum().clamp(min=1)


def multitask_loss(
    outputs: list[Tensor], target: Tensor, log_variance: Mapping[str, Tensor] | nn.ParameterDict | None = None
) -> Tensor:
    """Sum of the losses of ER, PR, HER2 and Ki-67.

    Without `log_variance` each weighs 1. With it each is weighed by its uncertainty `s^2` (Kendall, Gal and Cipolla
    2018, equation 10): `loss / s^2 + log s` for a classification, `error^2 / (2 s^2) + log s` for a regression.
    Huber's loss already holds the half, so with `s = 1` both ways agree. A marker that nobody in the batch has adds
    nothing, not even `log s`, which would otherwise drift wherever a site lacks the label.

    Parameters
    ----------
    outputs
        `SpatialMultitask`'s, each `(n, 1)`.
    target
        `(n, 4)`: ER, PR, HER2 as 0, 1 or NaN; Ki-67 in units of 10 percentage points or NaN.
    log_variance
        `log s^2` by marker, scalars; `SpatialMultitask.log_variance`.

    Raises
    ------
    ValueError
        A Ki-67 beyond 100%, so most likely in percentage points.

    """
    if bool((target[:, -1] > 100 / KI67_UNIT).any()):
        raise ValueError(f"a Ki-67 target exceeds {100 / KI67_UNIT:g}: divide percentage points by {KI67_UNIT:g}")
    total = torch.zeros((), device=target.device)
    for marker, output, truth in zip(MARKERS, outputs, target.unbind(1), strict=True):
        one = masked_huber(output, truth) if marker == "ki67" else masked_binary(output, truth)
        if log_variance is not None and not bool(truth.isnan().all()):
            one = torch.exp(-log_variance[marker]) * one + log_variance[marker] / 2
        total = total + one
    return total
