"""The questions asked of mammograms: molecular subtype as Luo et al. have it, malignancy, density; one learner for all.

Luo et al. (Front Oncol 2025;15:1638212) ask four questions of the square around a lesion: luminal or not, HER2-positive
or not, triple negative or not, and which of five classes. Their cases are images; here a case is a breast, whose views
answer alone (readings `CC`, `MLO`) and together. Malignancy and density are asked of the whole breast.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.cohort.labels import DENSITY, HER2, MALIGNANT, CaseLabels, Label
from shared.config.run_config import RunConfig
from shared.modalities.mammography.cache import PreparedBreast
from shared.modalities.mammography.mammography import NAME
from shared.modalities.mammography.plan import MammographyPlan
from shared.modalities.mammography.tags import VIEWS
from shared.models.breast_views import both_views
from shared.tasks import mammogram_heat, mammogram_views
from shared.tasks.choice import separates_best
from shared.tasks.classification import Scores, log_losses, mean_scores, score_evaluator, score_metrics, seen_by
from shared.tasks.explanation import REST
from shared.tasks.mammogram_views import MammographySection, NetworkSection, WholeBreastSection
from shared.tasks.subtype_ensemble import SUBTYPE_COLUMNS, subtype
from shared.tasks.task import OWN, Card, Learner, Need, Task
from shared.types import BoolArray

LUMINAL = Label("luminal", "Luminal")
TRIPLE_NEGATIVE = Label("triple_negative", "Triple negative")
FIVE = (
    Label("luminal_a", "Luminal A"),
    Label("luminal_b_her2_negative", "Luminal B, HER2-negative"),
    Label("her2_luminal", "HER2-positive, hormone receptor positive"),
    Label("her2_enriched", "HER2-positive, hormone receptor negative"),
    TRIPLE_NEGATIVE,
)
DENSITIES = tuple(Label(f"density_{letter}", f"Density {letter}") for letter in DENSITY.classes)

Answer = Callable[[CaseLabels, RunConfig], int | None]


@dataclass(frozen=True)
class Question:
    """What is asked of a breast.

    `scored` is one label that is positive or not, or several of which each breast has one; `answer` is the number of
    the class, None where the labels do not settle it: 0 or 1, or a place in `scored`. `columns` are where it is from.
    """

    name: str
    title: str
    scored: tuple[Label, ...]
    columns: tuple[Label, ...]
    answer: Answer
    section: type[MammographySection]
    says: str
    citation: str

    @property
    def classes(self) -> tuple[str, ...]:
        """What a network that answers it has logits of."""
        names = tuple(label.name for label in self.scored)
        return names if len(names) > 1 else (REST, *names)

    def target(self, labels: CaseLabels, config: RunConfig) -> tuple[tuple[float, ...], str]:
        """Probability of each class, and its number as the class that is balanced; nothing where there is no answer."""
        own = self.answer(labels, config)
        return ((), "") if own is None else (tuple(float(own == item) for item in range(len(self.classes))), str(own))

    def truths(self, labels: CaseLabels, config: RunConfig) -> Mapping[str, float]:
        """1 for the labels that the breast has, 0 for the others; nothing where there is no answer."""
        own = self.answer(labels, config)
        if own is None:
            return {}
        if len(self.scored) == 1:
            return {self.scored[0].name: float(own)}
        return {label.name: float(own == place) for place, label in enumerate(self.scored)}

    def scores(self, outputs: list[Tensor]) -> list[Scores]:
        """Probabilities of the labels: of both views, of CC and of MLO."""
        tables = [both_views(outputs), *(logits.float().softmax(dim=1) for logits in outputs[: len(VIEWS)])]
        readings = (OWN, *VIEWS)
        first = 1 if len(self.scored) == 1 else 0
        names = [label.name for label in self.scored]
        return [
            {
                reading: dict(zip(names, table[row, first:].tolist(), strict=True))
                for reading, table in zip(readings, tables, strict=True)
            }
            for row in range(len(tables[0]))
        ]

    def build_model(self, config: RunConfig) -> nn.Module:
        """The network that the configuration names, over both views; its start is drawn from the seed alone."""
        return mammogram_views.build_model(config, self.name, len(self.classes))

    def needs(self, config: RunConfig) -> frozenset[Need]:
        """An outline of the lesion, where the square around it is read."""
        return frozenset({"image"} if config.section(MammographySection).extent == "whole" else {"lesion"})

    def uses(self, labels: CaseLabels, config: RunConfig) -> bool:
        """Whether there is an answer and, where the lesion is read, an outline."""
        outlined = labels.outlined or "lesion" not in self.needs(config)
        return outlined and self.answer(labels, config) is not None

    def predict(
        self,
        model: nn.Module,
        case: PreparedBreast,
        plan: MammographyPlan,
        config: RunConfig,
        outline: BoolArray | None,
    ) -> Scores:
        """Scores of both views together and of each that there is."""
        del outline  # of another modality: no task gives one of mammograms
        own = config.section(NetworkSection)
        copies = mammogram_views.mirrored(mammogram_views.read_views(case, plan, own), own.mirrored_copies)
        told = mean_scores(model, copies, config, self.scores)
        there = case.views if own.extent == "whole" else case.outlined
        return {name: told[name] for name in (OWN, *there)}


def loss(outputs: list[Tensor], target: Tensor) -> Tensor:
    """Weighted cross-entropy, the mean over what answers: each view, and both by their features.

    `target` is `(n, classes + 1)`: probability of each class, weight of the case.
    """
    classes, weight = target[:, :-1], target[:, -1]
    each = [(F.cross_entropy(logits, classes, reduction="none") * weight).mean() for logits in outputs]
    return torch.stack(each).mean()


def luminal(labels: CaseLabels, config: RunConfig) -> int | None:
    """Whether a hormone receptor is positive; by the table's subtype where that is the run's rule."""
    if config.subtype_rule == "as-given":
        return None if labels.subtype is None else int(labels.subtype in {"luminal_a", "luminal_b"})
    return None if labels.hormone is None else int(labels.hormone)


def triple_negative(labels: CaseLabels, config: RunConfig) -> int | None:
    """Whether hormone receptors and HER2 are negative; by the table's subtype where that is the run's rule."""
    if config.subtype_rule == "as-given":
        return None if labels.subtype is None else int(labels.subtype == "triple_negative")
    if labels.hormone or labels.her2:
        return 0
    return None if labels.hormone is None or labels.her2 is None else 1


def five_classes(labels: CaseLabels, config: RunConfig) -> int | None:
    """Subtype by the run's rule, of which luminal cancers with HER2 are a class of their own.

    A table's own luminal B may have HER2 or not: where it does not say, there is no answer.
    """
    own = subtype(labels, config)
    if own in {"luminal_a", "luminal_b"} and labels.her2:
        own = "her2_luminal"
    if own == "luminal_b" and labels.her2 is False:
        own = "luminal_b_her2_negative"
    return next((place for place, label in enumerate(FIVE) if label.name == own), None)


def _whether(column: Label) -> Answer:
    def answer(labels: CaseLabels, _config: RunConfig) -> int | None:
        value = labels.value(column.name)
        return None if value is None else int(value)

    return answer


def _density(labels: CaseLabels, _config: RunConfig) -> int | None:
    return None if labels.density is None else DENSITY.classes.index(labels.density)


_LUO = "Luo et al., Front Oncol 2025;15:1638212"
_ROI = NetworkSection
QUESTIONS = (
    Question(
        "mammography-luminal", "Luminal or not, mammography", (LUMINAL,), SUBTYPE_COLUMNS, luminal, _ROI,
        "the probability of a luminal cancer", _LUO,
    ),
    Question(
        "mammography-her2", "HER2, mammography", (HER2,), (HER2,), _whether(HER2), _ROI,
        "the probability of a HER2-positive cancer", _LUO,
    ),
    Question(
        "mammography-triple-negative", "Triple negative or not, mammography", (TRIPLE_NEGATIVE,), SUBTYPE_COLUMNS,
        triple_negative, _ROI, "the probability of a triple-negative cancer", _LUO,
    ),
    Question(
        "mammography-subtype", "Molecular subtype, mammography", FIVE, SUBTYPE_COLUMNS, five_classes, _ROI,
        "probabilities of five molecular subtypes", _LUO,
    ),
    Question(
        "mammography-malignancy", "Malignancy, mammography", (MALIGNANT,), (MALIGNANT,), _whether(MALIGNANT),
        WholeBreastSection, "the probability of a malignant breast", "the network of " + _LUO,
    ),
    Question(
        "mammography-density", "Density, mammography", DENSITIES, (DENSITY,), _density, WholeBreastSection,
        "probabilities of the four BI-RADS densities", "Roth et al. 2020, arXiv:2009.01871",
    ),
)  # fmt: skip


def task_of(question: Question) -> Task:
    """The task that asks a question of a network."""
    metrics = tuple(score_metrics(question.scored, macro=len(question.scored) > 1))
    return Task(
        name=question.name,
        title=question.title,
        short="network",
        settings=question.section,
        uses=question.uses,
        seen=seen_by(question.truths),
        learner=Learner(
            build_model=question.build_model,
            open=lambda cases, plan, config: mammogram_views.open_views(cases, plan, config, question.target),
            sample=mammogram_views.sample,
            augment=mammogram_views.augment,
            loss=loss,
            loss_title="cross-entropy, the mean over the views",
            shape=mammogram_views.shape,
        ),
        evaluator=score_evaluator(question.truths, question.predict),
        metrics=metrics,
        choice=separates_best(tuple(label.name for label in question.scored), log_losses(metrics)),
        card=Card(
            "a network of one plane, DenseNet121 with attention (CBAM) by default, over both views",
            "CC and MLO, of each the square around the lesion or the whole breast (extent, below)",
            question.says,
            question.citation,
        ),
        labels=question.columns,
        scored=question.scored,
        needs=question.needs,
        modality=NAME,
        sides_compared=question.scored == (MALIGNANT,),
        explained=mammogram_heat.explanation(question.name, question.classes, question.answer),
    )


TASKS = {question.name: task_of(question) for question in QUESTIONS}
