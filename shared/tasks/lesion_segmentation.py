"""`lesion-segmentation`: find and outline the lesion in DCE-MRI (Wang et al., Radiology: Imaging Cancer 2025;7(3))."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor, nn

from shared.cohort.labels import CaseLabels
from shared.config.run_config import RunConfig
from shared.config.sections import TaskSection
from shared.inference import mean_volume, predict_structures, volume_shape
from shared.metrics.detection import detections, froc_metrics
from shared.metrics.intervals import total
from shared.metrics.metric import Metric
from shared.metrics.overlap import case_metrics, matches, pooled_f1
from shared.metrics.paired_numbers import NumberPair, agreement_metrics, ratio_metrics
from shared.modalities.mri.cache import PreparedMri
from shared.modalities.mri.pipeline import Placement, to_native
from shared.modalities.mri.plan import MriPlan
from shared.models.res_unet import ResUNet
from shared.reproducibility import derive_seed
from shared.tasks.augmentation import augment
from shared.tasks.choice import highest_mean
from shared.tasks.lesion_pieces import candidates, certain_pieces
from shared.tasks.task import OWN, Card, Evaluator, Learner, Measured, Pictures, Row, Structure, Task
from shared.types import BoolArray, FloatArray


def build_model(config: RunConfig) -> nn.Module:
    """The ResU-Net of the configuration, its start drawn from the configuration's seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, "model"))
        return ResUNet(channels_in=config.preprocessing.channels, config=config.model)


def loss(outputs: list[Tensor], target: Tensor) -> Tensor:
    """Dice plus cross-entropy over the supervised levels, weights halved a level (Isensee 2021).

    Logits `(n, 1, z, y, x)`, the first at the target's resolution, the others coarser; the target is float
    `(n, 1, z, y, x)` of 0 and 1.
    """
    weights = [0.5**level for level in range(len(outputs))]
    total = torch.zeros((), device=target.device)
    for weight, logits in zip(weights, outputs, strict=True):
        truth = target
        if logits.shape != target.shape:
            # The share of lesion inside a coarse voxel: small lesions keep their weight at every level.
            truth = F.adaptive_avg_pool3d(target, (logits.shape[2], logits.shape[3], logits.shape[4]))
        total = total + weight * (dice_loss(logits, truth) + F.binary_cross_entropy_with_logits(logits, truth))
    return total / sum(weights)


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """1 - soft Dice over the whole batch (Milletari 2016); one voxel of smoothing keeps an empty batch defined."""
    probability = torch.sigmoid(logits.float())
    overlap = (probability * target).sum()
    return 1 - (2 * overlap + 1) / (probability.sum() + target.sum() + 1)


def sample(case: PreparedMri, config: RunConfig, draws: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """The whole breast, or a patch of it; float32 image and mask. Only the patch is read from the memory map."""
    if config.training.mode == "whole_breast":
        return np.asarray(case.image, np.float32), np.asarray(case.mask, np.float32)[None]
    window = patch_window(case, config, draws)
    return np.asarray(case.image[(slice(None), *window)], np.float32), np.asarray(case.mask[window], np.float32)[None]


def patch_window(case: PreparedMri, config: RunConfig, draws: np.random.Generator) -> tuple[slice, slice, slice]:
    """Choose a patch: around a lesion voxel for `foreground_share` of the draws, else anywhere in the breast box."""
    size = config.training.patch_voxels
    limits = [max(0, side - edge) for side, edge in zip(case.mask.shape, size, strict=True)]
    if len(case.foreground) and draws.random() < config.training.foreground_share:
        centre = case.foreground[draws.integers(len(case.foreground))]
        jitter = [int(draws.integers(-edge // 4, edge // 4 + 1)) for edge in size]
        start = [int(c) - edge // 2 + move for c, edge, move in zip(centre, size, jitter, strict=True)]
    else:
        start = [int(draws.integers(limit + 1)) for limit in limits]
    corner = [min(max(0, first), limit) for first, limit in zip(start, limits, strict=True)]
    z, y, x = (slice(first, first + edge) for first, edge in zip(corner, size, strict=True))
    return z, y, x


def takes(labels: CaseLabels) -> bool:
    """Cancers, and what nobody called benign."""
    return labels.malignant is not False


def predict(
    model: nn.Module, case: PreparedMri, plan: MriPlan, config: RunConfig, outline: BoolArray | None
) -> FloatArray:
    """Probability of each structure that the network outlines, `(structure, z, y, x)` on the plan's grid."""
    del plan, outline
    return predict_structures(model, case.image, config)


def measure(prediction: FloatArray, case: PreparedMri, config: RunConfig, *, full: bool) -> Measured:
    """Metrics of one case on the study's own grid, against the reference as drawn."""
    del full
    native, drawn = to_native(prediction[0], case.place), case.native_mask
    # Outside the box nothing is predicted and nothing drawn: there is nothing to measure there.
    box = measured_box(case.place, drawn)
    probability, reference, spacing = native[box], drawn[box], case.native_grid.spacing
    pieces, certainty = candidates(probability, spacing, config)
    predicted = certain_pieces(pieces, certainty, config)
    overlap = config.evaluation.lesion_overlap
    row: Row = case_metrics(
        predicted,
        reference,
        spacing,
        nsd_tolerance_mm=config.evaluation.nsd_tolerance_mm,
        lesion_overlap=overlap,
        exam_voxels=drawn.size,
        start=(box[0].start, box[1].start, box[2].start),
    )
    matched, lesions = matches(pieces, len(certainty), reference, overlap)
    row |= detections(certainty, matched, lesions, config.inference.threshold)
    whole = np.zeros(drawn.shape, np.bool_)
    whole[box] = predicted
    return Measured({OWN: row}, (whole[None], drawn[None]))


def measured_box(place: Placement, drawn: BoolArray) -> tuple[slice, slice, slice]:
    """The box of the breast on the study's own grid, as large as it must be to hold all that is `drawn`, too."""
    z, y, x = place.window
    if np.count_nonzero(drawn[z, y, x]) == np.count_nonzero(drawn):
        return z, y, x
    (own,) = ndimage.find_objects(drawn.astype(np.uint8))
    z, y, x = (slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(place.window, own, strict=True))
    return z, y, x


VOLUME = NumberPair("volume_{}", "lesion volume", "ml", ("volume_ml", "reference_volume_ml"))


def _mean(name: str, unit: str, column: str, title: str, meaning: str, **options: Any) -> Metric:
    return Metric(name, unit, title, meaning, (column,), sent="moments", **options)


DICE = _mean(
    "dice", "1", "dice", "Dice",
    "Overlap of outline and reference, 0 to 1, mean over cases. Nothing predicted counts as 0.",
    shown=frozenset({"card", "compared", "pooled", "internal", "plotted"}),
)  # fmt: skip
METRICS = (
    DICE,
    _mean(
        "hd95", "mm", "hd95_mm", "HD95",
        "Larger of the two directed 95th percentiles of surface distance; not defined for failures.",
        higher_is_better=False, shown=frozenset({"card", "compared", "pooled", "internal", "plotted"}),
    ),
    _mean(
        "nsd", "1", "nsd", "NSD", "Share of both surfaces within {nsd_tolerance_mm:g} mm of the other.",
        shown=frozenset({"compared", "pooled", "plotted"}),
    ),
    Metric(
        "lesion_f1", "1", "Lesion-wise F1",
        "Connected lesions, found from an overlap (IoU) of {lesion_overlap:g} on; all cases' lesions together.",
        ("lesions_tp", "lesions_fp", "lesions_fn"), pooled_f1, sent="counts",
        shown=frozenset({"card", "compared", "internal", "plotted"}),
    ),
    *froc_metrics((0.4, 0.67, 1.0)),
    _mean(
        "sensitivity", "1", "sensitivity", "Sensitivity", "Share of the reference's voxels predicted, mean over cases.",
        shown=frozenset({"internal"}),
    ),
    _mean(
        "specificity", "1", "specificity", "Voxel specificity",
        "Share of the exam's voxels outside the reference that are left out, mean over cases.",
    ),
    _mean(
        "ppv", "1", "ppv", "PPV",
        "Share of predicted voxels that are lesion; not defined where nothing was predicted.",
        shown=frozenset({"internal"}),
    ),
    _mean(
        "assd", "mm", "assd_mm", "ASSD", "Average symmetric surface distance; not defined for failures.",
        higher_is_better=False,
    ),
    _mean(
        "centroid_distance", "mm", "centroid_distance_mm", "Centroid distance",
        "Between the centres of gravity; not defined for failures.", higher_is_better=False,
        shown=frozenset({"plotted"}),
    ),
    *agreement_metrics(VOLUME),
    *ratio_metrics(VOLUME),
    Metric(
        "failure_share", "1", "Share of failures", "Cases in which exactly one of outline and reference is empty.",
        ("failed",), interval="wilson", higher_is_better=False,
    ),
    Metric(
        "failures", "cases", "Failures", "Cases in which exactly one of outline and reference is empty.", ("failed",),
        total, interval="none", higher_is_better=False, sent="counts", shown=frozenset({"internal"}),
    ),
    Metric(
        "no_overlap", "cases", "Without overlap", "Cases with a Dice of 0, failures included.", ("dice",), total,
        read=lambda columns: (columns == 0).astype(np.float64), interval="none", higher_is_better=False,
    ),
)  # fmt: skip

TASK = Task(
    name="lesion-segmentation",
    title="Lesion outlines",
    settings=TaskSection,
    uses=lambda labels, _config: takes(labels),
    learner=Learner(
        build_model=build_model,
        open=lambda cases, _plan, _config: [case for case in cases if takes(case.labels)],
        sample=sample,
        augment=augment,
        loss=loss,
        loss_title="Dice + cross-entropy",
        shape=volume_shape,
    ),
    evaluator=Evaluator(predict, mean_volume, measure),
    metrics=METRICS,
    choice=highest_mean("mean Dice", DICE),
    card=Card(
        network="3D ResU-Net",
        reads="DCE-MRI of one breast: pre-contrast signal and uptake at each phase",
        answers="the lesion's outline",
        citation="Wang et al., Radiology: Imaging Cancer 2025;7(3)",
    ),
    structures=(Structure("Lesion"),),
    pairs=(VOLUME,),
    gives_outline=True,
    pictures=Pictures("dice", 90.0, "uptake"),
)
