"""How a trained model reads a case: the breast box in one pass or in patches, a lesion patch in mirrored copies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from torch import Tensor, nn

from shared.config.run_config import RunConfig
from shared.metrics.overlap import CaseMetrics, case_metrics
from shared.metrics.score_sums import ClassificationSums
from shared.metrics.sums import SegmentationSums
from shared.metrics.tissues import TissueMetrics, TissueSums, tissue_metrics
from shared.preprocessing.pipeline import to_native
from shared.preprocessing.tissues import native_tissues
from shared.tasks import Scores, task_named
from shared.training import pick_device
from shared.types import BoolArray, FloatArray

if TYPE_CHECKING:
    from shared.preprocessing.cache import CachedCase


Sums = SegmentationSums | TissueSums | ClassificationSums


def predict(model: nn.Module, image: npt.NDArray[np.floating[Any]], config: RunConfig) -> FloatArray:
    """Lesion probability of one prepared case: the first structure of `predict_structures`.

    Parameters
    ----------
    model
        The task's network.
    image
        float `(channel, z, y, x)` on the plan's grid.
    config
        Mode, overlap, batch size and flip averaging are its.

    Returns
    -------
    float32 `(z, y, x)` on the plan's grid.

    """
    lesion: FloatArray = predict_structures(model, image, config)[0]
    return lesion


def predict_structures(model: nn.Module, image: npt.NDArray[np.floating[Any]], config: RunConfig) -> FloatArray:
    """Probability of each of a network's structures, float32 `(structure, z, y, x)`; parameters as `predict`."""
    device = pick_device(config)
    torch.set_num_threads(config.compute.threads)
    model.to(device).eval()
    volume = torch.from_numpy(np.asarray(image, np.float32)).unsqueeze(0).to(device)
    with torch.inference_mode():
        if config.training.mode == "whole_breast":
            probability = _whole(model, volume, flip=config.inference.flip_averaging)
        else:
            probability = _patches(model, volume, config)
    result: FloatArray = probability.float().cpu().numpy()
    return result


def _whole(model: nn.Module, volume: Tensor, *, flip: bool) -> Tensor:
    if not flip:
        return torch.sigmoid(model(volume)[0])[0]
    # One batch of two: the mirrored copy costs little, as 3D convolutions at batch 1 are slow on CPU.
    both = torch.sigmoid(model(torch.cat([volume, volume.flip(4)]))[0])
    return 0.5 * (both[0] + both[1].flip(3))


def _patches(model: nn.Module, volume: Tensor, config: RunConfig) -> Tensor:
    """Overlapping patches blended by a Gaussian window (Isensee 2021), by MONAI."""
    from monai.inferers.utils import sliding_window_inference  # 4 s of imports that whole-breast mode need not pay

    logits: Tensor = sliding_window_inference(
        volume,
        roi_size=config.training.patch_voxels,
        sw_batch_size=config.inference.batch_size,
        predictor=lambda patch: model(patch)[0],
        overlap=config.inference.overlap,
        mode="gaussian",
    )
    return torch.sigmoid(logits)[0]


def keep_lesions(probability: FloatArray, spacing: tuple[float, float, float], config: RunConfig) -> BoolArray:
    """Threshold `(z, y, x)` probabilities and keep the connected pieces that count (spacing in mm).

    Dropped are pieces below `min_lesion_ml`, and those whose mean probability is below `relative_certainty` times that
    of the exam's most certain piece: at a centre with stronger background enhancement gland is taken for lesion, but
    less surely than the lesion itself.
    """
    mask: BoolArray = probability >= config.inference.threshold
    pieces, count = ndimage.label(mask, np.ones((3, 3, 3)))
    if count == 0:
        return mask
    voxels = np.bincount(pieces.ravel())
    certainty = np.bincount(pieces.ravel(), weights=probability.ravel()) / voxels
    kept = voxels * float(np.prod(spacing)) / 1000.0 >= config.inference.min_lesion_ml
    kept[0] = False
    if kept.any():
        kept &= certainty >= config.inference.relative_certainty * certainty[kept].max()
    chosen: BoolArray = kept[pieces]
    return chosen


def evaluate_case(model: nn.Module, case: CachedCase, config: RunConfig) -> tuple[CaseMetrics, BoolArray]:
    """Metrics of one case on the study's own grid, against the reference as drawn, and the mask predicted there."""
    return judge_outline(predict(model, case.image, config), case, config)


def judge_outline(probability: FloatArray, case: CachedCase, config: RunConfig) -> tuple[CaseMetrics, BoolArray]:
    """As `evaluate_case`, from a probability `(z, y, x)` on the plan's grid: one model's, or the mean of several."""
    probability = to_native(probability, case.meta)
    predicted = keep_lesions(probability, case.native_grid.spacing, config)
    metrics = case_metrics(
        predicted,
        case.native_mask,
        case.native_grid.spacing,
        nsd_tolerance_mm=config.evaluation.nsd_tolerance_mm,
        lesion_overlap=config.evaluation.lesion_overlap,
    )
    return metrics, predicted


def outline_tissues(model: nn.Module, case: CachedCase, config: RunConfig) -> BoolArray:
    """Breast and fibroglandular tissue as predicted, bool `(structure, z, y, x)` on the study's own grid."""
    return tissue_masks(predict_structures(model, case.image, config), case, config)


def tissue_masks(found: FloatArray, case: CachedCase, config: RunConfig) -> BoolArray:
    """Threshold probabilities `(structure, z, y, x)` of the plan's grid on the study's own.

    A breast is one piece, the largest; fibroglandular tissue lies within it.
    """
    masks = np.stack([to_native(part, case.meta) >= config.inference.threshold for part in found])
    pieces, count = ndimage.label(masks[0], np.ones((3, 3, 3)))
    if count > 1:
        masks[0] = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    masks[1] &= masks[0]
    return masks


def evaluate_tissues(model: nn.Module, case: CachedCase, config: RunConfig) -> tuple[TissueMetrics, BoolArray]:
    """Overlap and density of one case on the study's own grid, and the masks predicted there."""
    predicted = outline_tissues(model, case, config)
    return tissue_metrics(predicted, native_tissues(case), case.native_grid.spacing), predicted


def classify(model: nn.Module, patch: FloatArray, config: RunConfig) -> Scores:
    """Scores of one lesion patch `(channel + 1, z, y, x)`, averaged over its mirrored copies.

    Which of the mirror's eight images are read is the configuration's; anatomy differs from its mirror image, lesions
    do not.
    """
    task, settings = task_named(config.task), config.classifier(config.task)
    copies = 1 if settings is None else settings.mirrored_copies
    device = pick_device(config)
    torch.set_num_threads(config.compute.threads)
    model.to(device).eval()
    images = [np.flip(patch, axes) for axes in _MIRRORS[:copies]]
    batch = torch.from_numpy(np.stack([task.read(image, config) for image in images])).to(device)
    with torch.inference_mode():
        found = task.scores(model(batch))
    return {
        reader: {label: float(np.mean([item[reader][label] for item in found])) for label in labels}
        for reader, labels in found[0].items()
    }


def evaluate(model: nn.Module, cases: Sequence[Any], config: RunConfig) -> Sums:
    """Mergeable sums over a site's cases as the task opened them: all that leaves a site."""
    task = task_named(config.task)
    if task.kind == "segmentation":
        return sum((SegmentationSums.of(evaluate_case(model, case, config)[0]) for case in cases), SegmentationSums())
    if task.kind == "tissues":
        return sum((TissueSums.of(evaluate_tissues(model, case, config)[0]) for case in cases), TissueSums())
    total = ClassificationSums()
    for case in cases:
        scores = classify(model, case.patch, config)[""]
        truths = task.truths(case.labels, config)
        total = total + ClassificationSums.of((label, truth, scores[label]) for label, truth in truths.items())
    return total


_MIRRORS: tuple[tuple[int, ...], ...] = ((), (3,), (1,), (2,), (1, 3), (2, 3), (1, 2), (1, 2, 3))
"""Axes of a patch `(channel, z, y, x)` that are turned round."""
