"""What the system knows of a task: how it learns, how it is evaluated, what is told of it. One file each declares one.

Nothing outside a task's file asks for its name: loops, pages and cards read what is declared here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from shared.cohort.labels import CaseLabels, Label
from shared.metrics.metric import Metric, kinds_of, sums_of
from shared.metrics.paired_numbers import NumberPair
from shared.metrics.sums import Kinds, Sums
from shared.tasks.choice import Choice
from shared.tasks.explanation import Explanation

if TYPE_CHECKING:
    import numpy as np
    from torch import Generator, Tensor, nn

    from shared.config.run_config import RunConfig
    from shared.config.sections import AugmentationConfig, TaskSection
    from shared.types import BoolArray, FloatArray

Need = Literal["lesion", "tissues", "image"]
"""What a case must come with: a mask of the lesion, masks of breast and fibroglandular tissue, or the image alone."""
Row = dict[str, float | None]
"""One case's columns of the per-case table; None where a figure does not exist."""
OWN = ""
"""The reading that is a task's own answer, beside those of its parts (the branches of an ensemble)."""


@dataclass(frozen=True, slots=True)
class Learner:
    """How a task learns; cases and plan are of the task's modality, and of its own kinds.

    Attributes
    ----------
    build_model
        The network, its start drawn from the configuration's seed alone.
    open
        From prepared cases to those the task can use, as the training loop reads them.
    sample
        Input and target of one opened case, float32.
    augment
        Random changes of a batch.
    loss
        From the network's outputs and the batch's targets.
    loss_title
        The loss in words.
    shape
        Of one case as the network reads it, so that a step can be timed before there are cases.
    owners
        Prefix of parameter names to the label they answer for: sites without that label never move them.

    """

    build_model: Callable[[RunConfig], nn.Module]
    open: Callable[[Sequence[Any], Any, RunConfig], Sequence[Any]]
    sample: Callable[[Any, RunConfig, np.random.Generator], tuple[FloatArray, FloatArray]]
    augment: Callable[[Tensor, Tensor, AugmentationConfig, Generator], tuple[Tensor, Tensor]]
    loss: Callable[[list[Tensor], Tensor], Tensor]
    loss_title: str
    shape: Callable[[RunConfig], tuple[int, ...]]
    owners: Mapping[str, str] = field(default_factory=dict)

    def owner(self, parameter: str) -> str:
        """Label that a parameter or buffer answers for; empty for those that all labels share."""
        return next((label for prefix, label in self.owners.items() if parameter.startswith(prefix)), "")


@dataclass(frozen=True, slots=True)
class Measured:
    """One case compared with its reference.

    Attributes
    ----------
    rows
        Columns of the per-case table by reading: `OWN`, and the parts of a network that answer on their own.
    masks
        What was predicted and its reference, bool `(structure, z, y, x)` on the study's own grid; None without masks.

    """

    rows: Mapping[str, Row]
    masks: tuple[BoolArray, BoolArray] | None = None


class Measure(Protocol):
    """Compares a prediction with the case's reference."""

    def __call__(self, prediction: Any, case: Any, config: RunConfig, *, full: bool) -> Measured:
        """Every column where `full`, otherwise those that sites' sums need."""


@dataclass(frozen=True, slots=True)
class Evaluator:
    """How a task's model is evaluated on a prepared case; what a prediction is, only these functions know.

    Attributes
    ----------
    predict
        From a model and a case to a prediction before any threshold. The mask `(z, y, x)` on the study's own grid is
        the lesion to read in place of the reference's. Where nothing that it reads lies in the case's crop, there is no
        prediction (None).
    average
        The mean of several models' predictions: the ensemble of a study.
    measure
        Compare a prediction with the case's reference.
    restrict
        Leave out what concerns other labels than these: a model whose site never saw a label does not answer for it.

    """

    predict: Callable[[nn.Module, Any, Any, RunConfig, BoolArray | None], Any]
    average: Callable[[Sequence[Any]], Any]
    measure: Measure
    restrict: Callable[[Any, frozenset[str]], Any] = lambda prediction, _labels: prediction


@dataclass(frozen=True, slots=True)
class Structure:
    """A structure that is outlined, and the columns `dice<suffix>`, `nsd<suffix>`, `hd95_mm<suffix>` of it."""

    title: str
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures of the cases with the best, the median and the worst figure.

    Attributes
    ----------
    by
        Column that orders the cases.
    field_mm
        Edge of the square that is shown around the reference, mm.
    background
        What is shown below the outlines, as the modality names it (`Background.images`).

    """

    by: str
    field_mm: float
    background: str


@dataclass(frozen=True, slots=True)
class Card:
    """What the model card says: network, what it reads, what it answers, and after whom."""

    network: str
    reads: str
    answers: str
    citation: str


@dataclass(frozen=True, slots=True)
class Task:
    """All that the system knows of a task.

    Attributes
    ----------
    name, title
        As configurations and as pages write it.
    settings
        The section of the configuration that is the task's own, under its name with underscores.
    labels
        Columns of the table that it learns from; none where it learns from masks.
    uses
        Whether a case takes part: it has the reference, or one of the labels.
    seen
        Labels of a case that the task is evaluated by, as far as the case has them.
    learner, evaluator, metrics, choice, card
        The first metric is the task's headline.
    structures, pairs, scored
        What its page has sections of: masks of structures, numbers against a reference, scores of binary labels.
    thresholds
        Labels with an operating point, chosen on the sites' validation cases.
    needs
        What a case must come with to be prepared.
    modality
        Of the images it reads.
    short
        Its name beside its rivals; where empty, the words of `name` that theirs have not.
    gives_outline, reads_outline
        Whether its first structure is what other tasks can read in place of the reference; whether it is such a task.
    pictures
        What is drawn of its cases.
    explained
        How the page shows where its network looks, by class.
    rival_of
        Task on whose cases it stands as a rival; where `fused`, also averaged with it.
    sides_compared
        Whether a breast's score is also compared with the other breast's: of a patient's two, one has it as a rule.
    check
        Raises `ConfigError` where an optional package of the task is missing; asked before anything is trained.

    """

    name: str
    title: str
    settings: type[TaskSection]
    uses: Callable[[CaseLabels, RunConfig], bool]
    learner: Learner
    evaluator: Evaluator
    metrics: tuple[Metric, ...]
    choice: Choice
    card: Card
    labels: tuple[Label, ...] = ()
    seen: Callable[[CaseLabels, RunConfig], frozenset[str]] = lambda _labels, _config: frozenset()
    structures: tuple[Structure, ...] = ()
    pairs: tuple[NumberPair, ...] = ()
    scored: tuple[Label, ...] = ()
    needs: Callable[[RunConfig], frozenset[Need]] = lambda _config: frozenset({"lesion"})
    modality: str = "mri"
    short: str = ""
    gives_outline: bool = False
    reads_outline: bool = False
    pictures: Pictures | None = None
    explained: Explanation | None = None
    rival_of: str = ""
    fused: bool = False
    sides_compared: bool = False
    check: Callable[[], None] = lambda: None

    @property
    def headline(self) -> Metric:
        """The metric that answers the question."""
        return self.metrics[0]

    @property
    def kinds(self) -> Kinds:
        """The parts of the sums that its sites send."""
        return kinds_of(self.metrics)

    def sums(self, row: Row) -> Sums:
        """The sums of one case."""
        return sums_of(self.metrics, row)

    def parts_beside(self, sides: Iterable[str]) -> set[str]:
        """The parts of sums to which the sides (`Sums.sides`) belong, with those that are made of the same columns."""
        parts = {side.removesuffix(".positives").removesuffix(".negatives") for side in sides}
        columns = {metric.columns for metric in self.metrics if metric.kinds and metric.kinds.keys() <= parts}
        return {name for metric in self.metrics if metric.columns in columns for name in metric.kinds}

    def metric(self, name: str) -> Metric | None:
        """One of its metrics."""
        return next((metric for metric in self.metrics if metric.name == name), None)

    def counts(self, labels: Sequence[CaseLabels], config: RunConfig) -> dict[str, int]:
        """Cases the task can use (under ""), and those of them with each label that owns parameters."""
        known = [self.seen(item, config) for item in labels if self.uses(item, config)]
        owned = sorted(set(self.learner.owners.values()))
        return {"": len(known)} | {label: sum(label in seen for seen in known) for label in owned}
