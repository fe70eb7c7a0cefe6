"""`subtype-radiomics`: the rival of the networks, a federated linear model on IBSI-compliant radiomic features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydantic import Field
from torch import Tensor, nn

from shared.cohort.labels import SUBTYPE_LABELS, SUBTYPES, CaseLabels
from shared.config.run_config import RunConfig
from shared.config.sections import LoopConfig, PatchConfig, PatchSection, Rounds
from shared.errors import ConfigError
from shared.modalities.mri.cache import PreparedMri
from shared.modalities.mri.plan import MriPlan
from shared.modalities.mri.radiomics import compact_names, feature_names, need_pyradiomics, radiomic_features
from shared.models.radiomics import RadiomicsLinear
from shared.tasks import patches, subtype_ensemble
from shared.tasks.augmentation import no_augmentation
from shared.tasks.classification import Scores, score_evaluator
from shared.tasks.patch_classifier import LESION_BOX, patch_classifier, patch_predictor
from shared.tasks.patches import PatchCase
from shared.tasks.task import OWN, Card
from shared.types import FloatArray

_UNITS = {"shape_MeshVolume": 1e-3, "shape_SurfaceArea": 1e-2}
"""Volumes in mL and areas in cm2: their variances in mm are beyond what an average of updates takes."""


class RadiomicsSection(PatchSection):
    """The rival of the networks: a linear model on radiomic features."""

    rounds: Rounds = 30
    patch: PatchConfig = PatchConfig(spacing_mm=2.0)
    mirrored_copies: int = Field(default=1, ge=1, le=1, description="A mirrored lesion has the same features.")
    training: LoopConfig = LoopConfig(batch_size=24, steps_per_round=10, learning_rate=0.01, weight_decay=0.3)


@dataclass(frozen=True, slots=True)
class FeatureCase:
    """One lesion and its features `(feature,)`."""

    lesion: PatchCase
    features: FloatArray

    @property
    def key(self) -> str:
        """The case's pseudonym."""
        return self.lesion.key

    @property
    def labels(self) -> CaseLabels:
        """What the table says of it."""
        return self.lesion.labels


def read(patch: FloatArray, config: RunConfig) -> FloatArray:
    """The compact set of features of a lesion patch `(channel + 1, z, y, x)`, `(feature,)`, in mm, cm2 and mL.

    `ConfigError` where the patch has no fixed spacing: features in mm need one.
    """
    spacing = config.section(RadiomicsSection).patch.spacing_mm
    if spacing is None:
        raise ConfigError("subtype_radiomics.patch.spacing_mm is missing: radiomic features are measured in mm")
    everything = radiomic_features(patch, (spacing, spacing, spacing))
    units = np.array([_UNITS.get(name, 1.0) for name in compact_names(len(patch) - 1)], np.float32)
    chosen: FloatArray = everything[_places(len(patch) - 1)] * units
    return chosen


def open_features(cases: Sequence[PreparedMri], plan: MriPlan, config: RunConfig) -> list[FeatureCase]:
    """Cases that have a subtype, with their features."""
    opened = patches.open_patches(cases, plan, config, _target)
    known = {case.key: read(case.patch, config) for case in opened}
    return [FeatureCase(case, known[case.key]) for case in opened]


def build_model(config: RunConfig) -> nn.Module:
    """Multinomial logistic regression from zero weights."""
    return RadiomicsLinear(len(compact_names(config.preprocessing.channels)), len(SUBTYPES))


def sample(case: FeatureCase, config: RunConfig, draws: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Features, and the target with the case's weight behind it."""
    del config, draws
    return case.features, np.array([*case.lesion.target, case.lesion.weight], np.float32)


def scores(outputs: list[Tensor]) -> list[Scores]:
    """Probabilities."""
    table = outputs[0].float().softmax(dim=1)
    return [{OWN: dict(zip(SUBTYPES, row.tolist(), strict=True))} for row in table]


def _target(labels: CaseLabels, config: RunConfig) -> tuple[tuple[float, ...], str]:
    own = subtype_ensemble.subtype(labels, config)
    return (tuple(float(name == own) for name in SUBTYPES), own) if own in SUBTYPES else ((), "")


def _places(channels: int) -> list[int]:
    names = feature_names(channels)
    return [names.index(name) for name in compact_names(channels)]


_CLASSIFIER = patch_classifier(
    "subtype-radiomics",
    "Molecular subtype by radiomics",
    settings=RadiomicsSection,
    build_model=build_model,
    target=_target,
    loss=subtype_ensemble.loss,
    loss_title="cross-entropy",
    truths=subtype_ensemble.truths,
    scores=scores,
    scored=SUBTYPE_LABELS,
    labels=subtype_ensemble.SUBTYPE_COLUMNS,
    exclusive=True,
    card=Card(
        "a linear model on radiomic features",
        LESION_BOX,
        "probabilities of four molecular subtypes",
        "the rival of Wang et al., Radiology: Imaging Cancer 2025;7(3)",
    ),
)
TASK = replace(
    _CLASSIFIER,
    learner=replace(
        _CLASSIFIER.learner,
        open=open_features,
        sample=sample,
        augment=no_augmentation,
        shape=lambda config: (len(compact_names(config.preprocessing.channels)),),
    ),
    evaluator=score_evaluator(subtype_ensemble.truths, patch_predictor(scores, read)),
    rival_of="subtype-ensemble",
    fused=True,
    check=need_pyradiomics,
)
