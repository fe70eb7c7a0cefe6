"""The radiomics rival as a task: features of known spacing, a linear model that learns what they tell."""

import numpy as np
import pytest
import torch

from shared.errors import ConfigError
from shared.tasks import subtype_radiomics, task_named
from shared.tasks.patches import PatchCase
from shared.tasks.subtype_radiomics import TASK
from shared.training import train_round
from tests.shared.tasks.drawn_patches import CONFIG, LUMINAL_A, TRIPLE, changed, patch


def test_radiomics_learns_what_its_features_tell():
    pytest.importorskip("radiomics", reason="the optional extra `radiomics` is not installed")
    view = changed("subtype-radiomics")
    task = task_named("subtype-radiomics")
    cases = []
    for number in range(16):
        labels = TRIPLE if number % 2 else LUMINAL_A
        lesion = PatchCase(f"c{number}", None, subtype_radiomics._target(labels, view)[0], labels.subtype, labels)
        lesion.__dict__["patch"] = patch(number, radius=7.0 if number % 2 else 2.2)
        cases.append(subtype_radiomics.FeatureCase(lesion, subtype_radiomics.read(lesion.patch, view)))
    model = task.learner.build_model(view)
    for number in range(1, 6):
        train_round(model, cases, view, round_number=number, site="a")
    model.eval()
    found = subtype_radiomics.scores(model(torch.from_numpy(np.stack([case.features for case in cases]))))
    large = [item[""]["triple_negative"] > item[""]["luminal_a"] for item in found]
    assert large == [bool(number % 2) for number in range(16)]


def test_without_a_spacing_there_are_no_features():
    view = changed("subtype-radiomics", patch={"voxels": [16, 16, 16]})
    with pytest.raises(ConfigError, match=r"subtype_radiomics\.patch\.spacing_mm is missing"):
        subtype_radiomics.read(patch(0), view)


def test_it_stands_beside_the_ensemble_on_the_same_cases():
    assert (TASK.rival_of, TASK.fused) == ("subtype-ensemble", True)
    other = task_named("subtype-ensemble")
    assert (TASK.scored, TASK.labels) == (other.scored, other.labels)
    assert [metric.name for metric in TASK.metrics] == [metric.name for metric in other.metrics]
    for labels in (LUMINAL_A, TRIPLE):
        assert TASK.seen(labels, CONFIG) == other.seen(labels, CONFIG)
