"""What all classifiers of lesion patches in MRI share: `Task` with all that does not differ between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from torch import Tensor, nn

from shared.cohort.labels import Label
from shared.config.run_config import RunConfig
from shared.config.sections import MeasuredSection, NetworkAloneSection, PatchSection
from shared.metrics.paired_numbers import NumberPair
from shared.modalities.mri.cache import PreparedMri
from shared.modalities.mri.lesion_patch import cut_patch, keep_patch, largest_piece, open_patch
from shared.modalities.mri.plan import MriPlan
from shared.tasks import patches
from shared.tasks.choice import separates_best
from shared.tasks.classification import (
    Predict,
    Scores,
    Truths,
    log_losses,
    mean_scores,
    score_evaluator,
    score_metrics,
    seen_by,
    used_by,
)
from shared.tasks.task import Card, Learner, Task
from shared.types import BoolArray, FloatArray

LESION_BOX = "a box around the lesion in DCE-MRI, cut from its outline"
"""What such a classifier reads, on its card."""
_MIRRORS: tuple[tuple[int, ...], ...] = ((), (3,), (1,), (2,), (1, 3), (2, 3), (1, 2), (1, 2, 3))
"""Axes of a patch `(channel, z, y, x)` that are turned round."""


def patch_classifier(
    name: str,
    title: str,
    *,
    build_model: Callable[[RunConfig], nn.Module],
    target: patches.Target,
    loss: Callable[[list[Tensor], Tensor], Tensor],
    loss_title: str,
    truths: Truths,
    scores: Callable[[list[Tensor]], list[Scores]],
    scored: tuple[Label, ...],
    card: Card,
    labels: tuple[Label, ...] = (),
    pairs: tuple[NumberPair, ...] = (),
    exclusive: bool = False,
    owners: Mapping[str, str] = MappingProxyType({}),
    error_scales: Mapping[str, float] = MappingProxyType({}),
    settings: type[PatchSection] = PatchSection,
) -> Task:
    """A classifier of lesion patches: `Task` with what all of them share; parameters as there and in `Learner`.

    `target` is as `patches.open_patches` takes it, `truths` as `score_evaluator`, `scores` as `patch_predictor`,
    `error_scales` as `log_losses`. `labels` are the columns that it learns from, where they are others than `scored`.
    `exclusive`: the labels exclude each other, so that the mean of their AUCs is the headline.
    """
    metrics = tuple(score_metrics(scored, pairs, macro=exclusive))
    return Task(
        name=name,
        title=title,
        settings=settings,
        uses=used_by(truths),
        seen=seen_by(truths),
        learner=Learner(
            build_model=build_model,
            open=lambda cases, plan, config: patches.open_patches(cases, plan, config, target),
            sample=patches.sample,
            augment=patches.augment,
            loss=loss,
            loss_title=loss_title,
            shape=patches.shape,
            owners=owners,
        ),
        evaluator=score_evaluator(truths, patch_predictor(scores)),
        metrics=metrics,
        choice=separates_best(tuple(label.name for label in scored), log_losses(metrics, error_scales)),
        card=card,
        labels=labels or scored,
        scored=scored,
        pairs=pairs,
        reads_outline=True,
    )


def network_alone(task: Task, settings: type[MeasuredSection] = NetworkAloneSection) -> Task:
    """The task's rival: the published network without measures, trained beside it so that both rows are reported."""
    return replace(
        task,
        name=f"{task.name}-network",
        title=f"{task.title} by the network alone",
        settings=settings,
        short="network alone",
        card=replace(task.card, network=f"{task.card.network}, without measures"),
        explained=None,
        rival_of=task.name,
    )


def patch_predictor(
    scores: Callable[[list[Tensor]], list[Scores]],
    read: Callable[[FloatArray, RunConfig], FloatArray] = lambda patch, _config: patch,
) -> Predict:
    """How a classifier reads a case's patch, from the scores of each of a batch of outputs.

    `read` makes the network's input of a patch `(channel + 1, z, y, x)`, of a predicted outline that of its largest
    piece.
    """

    def predict(
        model: nn.Module, case: PreparedMri, plan: MriPlan, config: RunConfig, outline: BoolArray | None
    ) -> Scores | None:
        settings, region = config.section(PatchSection), case.region()
        if outline is None:
            if region.misses_lesion:
                return None
            root = case.region_folder.parent.parent
            patch = open_patch(keep_patch(root, case.region_folder.name, region, plan, settings.patch))
        else:
            inside = np.zeros_like(outline)
            inside[region.window] = outline[region.window]
            if not inside.any():
                return None
            patch = cut_patch(region, largest_piece(inside), plan, settings.patch)
        return read_patch(model, patch, config, scores, read)

    return predict


def read_patch(
    model: nn.Module,
    patch: FloatArray,
    config: RunConfig,
    scores: Callable[[list[Tensor]], list[Scores]],
    read: Callable[[FloatArray, RunConfig], FloatArray],
) -> Scores:
    """Scores of one lesion patch, averaged over its mirrored copies.

    Which of the mirror's eight images are read is the configuration's; anatomy differs from its mirror image, lesions
    do not.
    """
    images = [np.flip(patch, axes) for axes in _MIRRORS[: config.section(PatchSection).mirrored_copies]]
    return mean_scores(model, np.stack([read(image, config) for image in images]), config, scores)
