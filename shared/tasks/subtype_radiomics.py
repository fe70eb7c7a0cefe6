"""`subtype-radiomics`: the rival of the networks, a federated linear model on IBSI-compliant radiomic features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Generator, Tensor, nn

from shared.cohort.labels import SUBTYPES, CaseLabels
from shared.config.run_config import RunConfig
from shared.config.sections import AugmentationConfig
from shared.errors import ConfigError
from shared.models.radiomics import RadiomicsLinear
from shared.preprocessing.cache import CachedCase
from shared.preprocessing.plan import Plan
from shared.preprocessing.radiomics import compact_names, feature_names, need_pyradiomics, radiomic_features
from shared.tasks import Scores, Task, patches, subtype_ensemble
from shared.tasks.patches import PatchCase
from shared.types import FloatArray


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

    @property
    def patch(self) -> FloatArray:
        """float32 `(channel + 1, z, y, x)`."""
        return self.lesion.patch


def read(patch: FloatArray, config: RunConfig) -> FloatArray:
    """The compact set of features of a lesion patch `(channel + 1, z, y, x)`, `(feature,)`.

    Raises
    ------
    ConfigError
        The patch has no fixed spacing: features in mm need one.

    """
    spacing = config.subtype_radiomics.patch.spacing_mm
    if spacing is None:
        raise ConfigError("subtype_radiomics.patch.spacing_mm is missing: radiomic features are measured in mm")
    everything = radiomic_features(patch, (spacing, spacing, spacing))
    chosen: FloatArray = everything[_places(len(patch) - 1)]
    return chosen


def open_features(cases: Sequence[CachedCase], plan: Plan, config: RunConfig) -> list[FeatureCase]:
    """Cases that have a subtype, with their features."""
    opened = patches.open_patches(cases, plan, config, _target)
    known = {case.key: read(case.patch, config) for case in opened}
    return [FeatureCase(case, known[case.key]) for case in opened]


def build_model(config: RunConfig) -> nn.Module:
    """Multinomial logistic regression from zero weights."""
    return RadiomicsLinear(len(compact_names(1 + config.preprocessing.post_phases)), len(SUBTYPES))


def sample(case: FeatureCase, config: RunConfig, draws: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Features, and the target with the case's weight behind it."""
    del config, draws
    return case.features, np.array([*case.lesion.target, case.lesion.weight], np.float32)


def augment(
    features: Tensor, target: Tensor, config: AugmentationConfig, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Nothing: a turned lesion has the same features."""
    del config, generator
    return features, target


def scores(outputs: list[Tensor]) -> list[Scores]:
    """Probabilities."""
    table = outputs[0].float().softmax(dim=1)
    return [{"": dict(zip(SUBTYPES, row.tolist(), strict=True))} for row in table]


def truths(labels: CaseLabels, config: RunConfig) -> Mapping[str, float]:
    """As the ensemble's."""
    return subtype_ensemble.truths(labels, config)


def _target(labels: CaseLabels, config: RunConfig) -> tuple[tuple[float, ...], str]:
    found = subtype_ensemble.subtype(labels, config)
    return (tuple(float(name == found) for name in SUBTYPES), found) if found in SUBTYPES else ((), "")


def _places(channels: int) -> list[int]:
    names = feature_names(channels)
    return [names.index(name) for name in compact_names(channels)]


TASK = Task(
    name="subtype-radiomics",
    kind="classification",
    build_model=build_model,
    open=open_features,
    sample=sample,
    augment=augment,
    loss=subtype_ensemble.loss,
    truths=truths,
    scores=scores,
    read=read,
    check=need_pyradiomics,
)
