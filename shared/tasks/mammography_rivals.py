"""The rivals of mammography's networks, each question by the paper's simple CNN and by radiomics, for the same run.

As tasks of their own they are trained in the same federation, on the same breasts, and the page sets them beside the
network that they rival.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor, nn

from shared.config.run_config import RunConfig
from shared.config.sections import LoopConfig, Rounds
from shared.modalities.mammography.cache import PreparedBreast
from shared.modalities.mammography.plan import MammographyPlan
from shared.modalities.mammography.radiomics import NAMES, radiomic_measures
from shared.modalities.mammography.tags import VIEWS
from shared.models.radiomics import RadiomicsLinear
from shared.tasks import mammogram_views
from shared.tasks.augmentation import no_augmentation
from shared.tasks.classification import Scores, mean_scores, score_evaluator
from shared.tasks.mammogram_views import Extent, MammographySection, Network, NetworkSection
from shared.tasks.mammography import QUESTIONS, Question, task_of
from shared.tasks.subtype_radiomics import FeatureCase, sample
from shared.tasks.task import OWN, Card, Task
from shared.types import BoolArray, FloatArray

_COMPARED = "a comparator of Luo et al., Front Oncol 2025;15:1638212"
_RATES = LoopConfig(batch_size=16, steps_per_round=15, learning_rate=2e-3, weight_decay=0.05, gradient_clip=5.0)


class SimpleCnnSection(NetworkSection):
    """The simple CNN, at rates that suit a random start."""

    network: Network = "simple-cnn"
    rounds: Rounds = 6
    training: LoopConfig = _RATES


class WholeSimpleCnnSection(SimpleCnnSection):
    """As `SimpleCnnSection`, of a question about the whole breast."""

    extent: Extent = "whole"
    training: LoopConfig = _RATES.model_copy(update={"batch_size": 8})


class BreastRadiomicsSection(MammographySection):
    """A linear model on radiomic measures."""

    rounds: Rounds = 6
    training: LoopConfig = LoopConfig(batch_size=24, steps_per_round=50, learning_rate=0.01, weight_decay=0.3)


class WholeBreastRadiomicsSection(BreastRadiomicsSection):
    """As `BreastRadiomicsSection`, of a question about the whole breast."""

    extent: Extent = "whole"


def measure_views(breast: PreparedBreast, plan: MammographyPlan, extent: str) -> FloatArray:
    """Radiomic measures of the lesion, or of the whole breast, float32 `(measure,)`: the mean over the views.

    Grey values have the plan's mean at 0 and its deviation as 1. Where one view is absent, the other stands for it.
    """
    images = breast.whole() if extent == "whole" else breast.regions()
    # Air is 0, so that whatever is more is the breast.
    outlines = {view: image > 0 for view, image in images.items()} if extent == "whole" else breast.outlines("roi")
    levels = {view: (image - np.float32(plan.mean)) / np.float32(plan.deviation) for view, image in images.items()}
    measures: FloatArray = np.mean([radiomic_measures(levels[view], outlines[view]) for view in images], axis=0)
    return measures


def _by_simple_cnn(question: Question) -> Task:
    section = SimpleCnnSection if question.section is NetworkSection else WholeSimpleCnnSection
    task = task_of(
        replace(question, name=f"{question.name}-cnn", title=f"{question.title}: simple CNN", section=section)
    )
    card = replace(task.card, network="four levels of a convolution, over both views", citation=_COMPARED)
    return replace(task, card=card, rival_of=question.name, short="simple CNN", explained=None)


def _by_radiomics(question: Question) -> Task:
    section = BreastRadiomicsSection if question.section is NetworkSection else WholeBreastRadiomicsSection
    own = replace(question, name=f"{question.name}-radiomics", title=f"{question.title}: radiomics", section=section)
    task = task_of(own)

    def open_measures(cases: Sequence[PreparedBreast], plan: MammographyPlan, config: RunConfig) -> list[FeatureCase]:
        opened = mammogram_views.open_views(cases, plan, config, own.target)
        known = {case.key: measure_views(case.breast, plan, case.section.extent) for case in opened}
        return [FeatureCase(case, known[case.key]) for case in opened]

    def scores(outputs: list[Tensor]) -> list[Scores]:
        # One answer for the breast, as if both views had given it.
        return [{OWN: told[OWN]} for told in own.scores(outputs * len(VIEWS))]

    def predict(
        model: nn.Module,
        case: PreparedBreast,
        plan: MammographyPlan,
        config: RunConfig,
        outline: BoolArray | None,
    ) -> Scores:
        del outline  # of another modality: no task gives one of mammograms
        measures = measure_views(case, plan, config.section(MammographySection).extent)
        return mean_scores(model, measures[None], config, scores)

    learner = replace(
        task.learner,
        build_model=lambda _config: RadiomicsLinear(len(NAMES), max(2, len(own.scored))),
        open=open_measures,
        sample=sample,
        augment=no_augmentation,
        loss_title="cross-entropy",
        shape=lambda _config: (len(NAMES),),
    )
    card = Card("a linear model on radiomic measures of both views", task.card.reads, own.says, _COMPARED)
    return replace(
        task,
        learner=learner,
        evaluator=score_evaluator(own.truths, predict),
        card=card,
        rival_of=question.name,
        short="radiomics",
        explained=None,
    )


TASKS = {task.name: task for question in QUESTIONS for task in (_by_simple_cnn(question), _by_radiomics(question))}
