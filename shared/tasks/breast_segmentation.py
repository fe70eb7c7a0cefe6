"""`breast-segmentation`: the breast against chest wall and air, and its fibroglandular tissue (Xue and Wang 2021).

One residual U-Net with an output a structure, on the same prepared box as `lesion-segmentation`. Breast density is the
fibroglandular volume over the breast's, as the predicted masks have it (`structure_metrics`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from scipy import ndimage
from torch import Generator, Tensor, nn

from shared.cohort.labels import CaseLabels
from shared.config.run_config import RunConfig
from shared.config.sections import AugmentationConfig, TaskSection
from shared.metrics.metric import Metric, Place
from shared.metrics.overlap import CUBE, structure_metrics
from shared.metrics.paired_numbers import NumberPair, agreement_metrics, error_metrics
from shared.modalities.mri.cache import PreparedMri
from shared.modalities.mri.pipeline import to_native
from shared.modalities.mri.tissues import native_tissues, open_tissues
from shared.models.res_unet import ResUNet
from shared.reproducibility import derive_seed
from shared.tasks import augmentation, lesion_segmentation
from shared.tasks.choice import highest_mean
from shared.tasks.task import OWN, Card, Measured, Pictures, Structure, Task
from shared.types import STRUCTURES, BoolArray, FloatArray

PRIOR_LOGITS = (-0.5, -2.5)
"""A breast fills some four tenths of its box, fibroglandular tissue some tenth."""

_TONES = (0.1, 1.3)  # lowest and highest level of a tissue, over the brightest one's
_SAMPLED = 16384  # voxels from which a percentile is known well enough


def build_model(config: RunConfig) -> nn.Module:
    """The ResU-Net of the configuration with an output a structure, its start drawn from the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, "breast-segmentation"))
        return ResUNet(config.preprocessing.channels, config.model, PRIOR_LOGITS)


def loss(outputs: list[Tensor], target: Tensor) -> Tensor:
    """Mean over the structures of `lesion_segmentation.loss`: a Dice each, lest the breast outweigh its gland.

    Logits `(n, structure, z, y, x)`, the first at the target's resolution, the others coarser; the target is float
    `(n, structure, z, y, x)` of 0 and 1.
    """
    parts = [
        lesion_segmentation.loss([item[:, [number]] for item in outputs], target[:, [number]])
        for number in range(len(STRUCTURES))
    ]
    return torch.stack(parts).mean()


def sample(case: PreparedMri, config: RunConfig, draws: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """The whole breast, or a patch anywhere in its box: tissue is everywhere; float32 image and masks."""
    masks = open_tissues(case)
    if config.training.mode == "whole_breast":
        return np.asarray(case.image, np.float32), np.asarray(masks, np.float32)
    size = config.training.patch_voxels
    start = [int(draws.integers(max(0, side - edge) + 1)) for side, edge in zip(masks.shape[1:], size, strict=True)]
    window = (slice(None), *(slice(first, first + edge) for first, edge in zip(start, size, strict=True)))
    return np.asarray(case.image[window], np.float32), np.asarray(masks[window], np.float32)


def augment(image: Tensor, masks: Tensor, config: AugmentationConfig, generator: Generator) -> tuple[Tensor, Tensor]:
    """As `augmentation.augment`; before it, in `intensity` of the samples, another tone of the pre-contrast signal.

    Scanners suppress fat well, badly or not at all: before contrast it is darker than gland at one hospital and
    brighter at the next. Parameters as `augmentation.augment`.
    """
    toned = [
        torch.cat([other_tone(one[:1], generator), one[1:]])
        if bool(torch.rand((), generator=generator) < config.intensity)
        else one
        for one in image
    ]
    return augmentation.augment(torch.stack(toned), masks, config, generator)


def other_tone(pre: Tensor, generator: Generator) -> Tensor:
    """Map pre-contrast signal by a random curve: straight pieces from air, which stays dark, to three drawn levels.

    The curve need not rise, so that fat and gland may change places. Its knots divide the range up to the image's 99th
    percentile into three; what is brighter has the last level.
    """
    top = torch.quantile(pre.flatten()[:: max(1, pre.numel() // _SAMPLED)], 0.99).clamp(min=1e-3)
    levels = torch.cat([torch.zeros(1), torch.rand(3, generator=generator) * (_TONES[1] - _TONES[0]) + _TONES[0]])
    place = (pre / top * 3).clamp(0.0, 3.0)
    knot = place.long().clamp(max=2)
    return torch.lerp(levels[knot], levels[knot + 1], place - knot) * top


def takes(labels: CaseLabels) -> bool:
    """Cases with both reference masks, whatever their lesion."""
    return labels.tissues


def tissue_masks(probability: FloatArray, case: PreparedMri, config: RunConfig) -> BoolArray:
    """Threshold probabilities `(structure, z, y, x)` of the plan's grid on the study's own.

    A breast is one piece, the largest; fibroglandular tissue lies within it.
    """
    masks = np.stack([to_native(part, case.place) >= config.inference.threshold for part in probability])
    pieces, number = ndimage.label(masks[0], CUBE)
    if number > 1:
        masks[0] = pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:]))
    masks[1] &= masks[0]
    return masks


def measure(prediction: FloatArray, case: PreparedMri, config: RunConfig, *, full: bool) -> Measured:
    """Both structures and the density of one case on the study's own grid; without surfaces, where not `full`."""
    masks, reference = tissue_masks(prediction, case, config), native_tissues(case)
    tolerance = config.evaluation.nsd_tolerance_mm if full else None
    row = structure_metrics(masks, reference, case.native_grid.spacing, nsd_tolerance_mm=tolerance)
    return Measured({OWN: row}, (masks, reference))


DENSITY = NumberPair("{}_density", "density", "%", ("density_percent", "reference_density_percent"))


def _structure(structure: str) -> list[Metric]:
    title = "breast" if structure == "breast" else "fibroglandular tissue"
    led: frozenset[Place] = frozenset({"card", "compared", "pooled", "internal", "plotted"})
    return [
        Metric(
            f"dice_{structure}", "1", f"Dice, {title}", "Overlap of outline and reference, 0 to 1, mean over cases.",
            (f"dice_{structure}",), sent="moments", shown=led,
        ),
        Metric(
            f"hd95_{structure}", "mm", f"HD95, {title}",
            "Larger of the two directed 95th percentiles of surface distance; not defined for failures.",
            (f"hd95_mm_{structure}",), higher_is_better=False,
        ),
        Metric(
            f"nsd_{structure}", "1", f"NSD, {title}",
            "Share of both surfaces within {nsd_tolerance_mm:g} mm of the other.", (f"nsd_{structure}",),
        ),
    ]  # fmt: skip


BREAST, GLAND = (_structure(structure) for structure in STRUCTURES)

TASK = Task(
    name="breast-segmentation",
    title="Breast and fibroglandular tissue",
    settings=TaskSection,
    uses=lambda labels, _config: takes(labels),
    learner=replace(
        lesion_segmentation.TASK.learner,
        build_model=build_model,
        open=lambda cases, _plan, _config: [case for case in cases if takes(case.labels)],
        sample=sample,
        augment=augment,
        loss=loss,
    ),
    evaluator=replace(lesion_segmentation.TASK.evaluator, measure=measure),
    # The breast is easily outlined; the fibroglandular tissue inside is what models differ in.
    metrics=(*GLAND, *BREAST, *error_metrics(DENSITY), *agreement_metrics(DENSITY)),
    choice=highest_mean("mean Dice of both structures", BREAST[0], GLAND[0]),
    card=Card(
        network="3D ResU-Net with two outputs",
        reads="DCE-MRI of one breast: pre-contrast signal and uptake at each phase",
        answers="outlines of the breast and of its fibroglandular tissue, and the density from both",
        citation="Xue and Wang 2021",
    ),
    structures=tuple(Structure(item.replace("_", " "), f"_{item}") for item in STRUCTURES),
    pairs=(DENSITY,),
    needs=lambda _config: frozenset({"tissues"}),
    pictures=Pictures("dice_fibroglandular", 150.0, "pre-contrast"),
)
