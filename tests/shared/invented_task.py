"""A task whose models and cases are made up: what the tests of the evaluation loop share."""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import nn

from shared.cohort.labels import CaseLabels, Label
from shared.config.run_config import parse_config
from shared.config.sections import ClassifierSection
from shared.errors import StudyError
from shared.tasks.choice import separates_best
from shared.tasks.classification import log_losses, score_evaluator, score_metrics, seen_by, used_by
from shared.tasks.task import OWN, Card, Learner, Task

ER, PR = Label("er", "ER"), Label("pr", "PR")
CONFIG = parse_config(
    {"name": "t", "data": {"root": "d", "sites": ["a", "b"], "external": "x"}, "tasks": ["receptor-status"]}, "t"
)


@dataclass
class Case:
    """A case whose features are what models read; where there are none, its files are damaged."""

    key: str
    labels: CaseLabels
    features: np.ndarray | None = None
    seen: list = field(default_factory=list)

    @property
    def read(self):
        if self.features is None:
            raise StudyError("preprocessing_failed", "the cache lost it")
        return torch.from_numpy(self.features)


class Scorer(nn.Module):
    """Answers with a logit for each label, and, as a branch, with the first one's alone."""

    def __init__(self, *weights):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor(weights))

    def forward(self, x):
        return self.weights * x


def truths(labels, config):
    return {name: value for name in ("er", "pr") if (value := labels.value(name)) is not None}


def predict(model, case, plan, config, outline):
    """Probabilities; in an outline they are those of the outline's share of voxels, and none in an empty one."""
    del plan, config
    features = case.read
    if outline is not None:
        if not outline.any():
            return None
        features = features * float(outline.mean())
    values = torch.sigmoid(model(features)).tolist()
    return {OWN: dict(zip(("er", "pr"), values, strict=True)), "branch": {"er": 0.25}}


METRICS = tuple(score_metrics((ER, PR)))
TASK = Task(
    name="receptor-status",
    title="Invented",
    settings=ClassifierSection,
    uses=used_by(truths),
    seen=seen_by(truths),
    learner=Learner(lambda _: Scorer(0.0, 0.0), None, None, None, None, "none", None),
    evaluator=score_evaluator(truths, predict),
    metrics=METRICS,
    choice=separates_best(("er", "pr"), log_losses(METRICS)),
    card=Card("", "", "", ""),
    labels=(ER, PR),
    scored=(ER, PR),
    reads_outline=True,
)


def case(number, er, pr, features=(1.0, 1.0)):
    """Labels are 1, 0 or None; without features the case is damaged."""
    er, pr = (None if label is None else bool(label) for label in (er, pr))
    own = None if features is None else np.array(features, np.float32)
    return Case(f"x-p{number}-e-L", CaseLabels(er=er, pr=pr), own)


def chance(logit):
    return 1 / (1 + math.exp(-logit))
