"""One file a task: its model, target, loss, scores and augmentation; and the table of tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, get_args

from shared.config.sections import TaskName
from shared.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from torch import Generator, Tensor, nn

    from shared.cohort.labels import CaseLabels
    from shared.config.run_config import RunConfig
    from shared.config.sections import AugmentationConfig
    from shared.preprocessing.cache import CachedCase
    from shared.preprocessing.plan import Plan
    from shared.types import FloatArray

Scores = Mapping[str, Mapping[str, float]]
"""Of one case, by reader ("" for the task's own answer, else a part of it such as a branch) and label: a probability,
or percentage points for `ki67_percent`."""


@dataclass(frozen=True, slots=True)
class Task:
    """What loop, sites and server must know of a task.

    Attributes
    ----------
    name, kind
        A segmentation answers with the lesion's mask, `tissues` with those of breast and fibroglandular tissue, a
        classification with scores of labels.
    build_model
        The network, its start drawn from the configuration's seed alone.
    open
        From prepared cases to those the task can use, as the loop reads them.
    sample
        Input and target of one opened case, float32.
    augment
        Random changes of a batch.
    loss
        From the network's outputs and the batch's targets.
    truths
        What the task is judged by: truth of each label that the case has, 0 or 1 (Ki-67: percent).
    scores
        Classification: from the network's outputs to each case's scores.
    read
        Classification: from a lesion patch to the network's input.
    takes
        Segmentation: whether a case has what the task is trained and judged by.
    check
        Raises `ConfigError` where an optional package of the task is missing; asked before anything is trained.
    owners
        Prefix of parameter names to the label they answer for: sites without that label never move them.

    """

    name: TaskName
    kind: Literal["segmentation", "tissues", "classification"]
    build_model: Callable[[RunConfig], nn.Module]
    open: Callable[[Sequence[CachedCase], Plan, RunConfig], Sequence[Any]]
    sample: Callable[[Any, RunConfig, np.random.Generator], tuple[FloatArray, FloatArray]]
    augment: Callable[[Tensor, Tensor, AugmentationConfig, Generator], tuple[Tensor, Tensor]]
    loss: Callable[[list[Tensor], Tensor], Tensor]
    truths: Callable[[CaseLabels, RunConfig], Mapping[str, float]] = lambda _labels, _config: {}
    scores: Callable[[list[Tensor]], list[Scores]] = lambda _outputs: []
    read: Callable[[FloatArray, RunConfig], FloatArray] = lambda patch, _config: patch
    takes: Callable[[CaseLabels], bool] = lambda _labels: True
    check: Callable[[], None] = lambda: None
    owners: Mapping[str, str] = field(default_factory=dict)

    def owner(self, parameter: str) -> str:
        """Label that a parameter or buffer answers for; empty for those that all labels share."""
        return next((label for prefix, label in self.owners.items() if parameter.startswith(prefix)), "")

    def uses(self, labels: CaseLabels, config: RunConfig) -> bool:
        """Whether a case takes part: it has the reference, or one of the labels."""
        return bool(self.truths(labels, config)) if self.kind == "classification" else self.takes(labels)

    def counts(self, labels: Sequence[CaseLabels], config: RunConfig) -> dict[str, int]:
        """Cases the task can use (under ""), and those of them with each label that owns parameters."""
        known = [self.truths(item, config) for item in labels if self.uses(item, config)]
        owned = sorted(set(self.owners.values()))
        return {"": len(known)} | {label: sum(label in truths for truths in known) for label in owned}


def task_named(name: str) -> Task:
    """Return a task by the name configurations use: the file of that name, with underscores, holds it.

    Raises
    ------
    ConfigError
        There is no such task.

    """
    if name not in get_args(TaskName):
        raise ConfigError(f"there is no task '{name}'")
    # Each where it is asked for: MONAI, which the classifiers need, takes seconds to import.
    task: Task = import_module(f"shared.tasks.{name.replace('-', '_')}").TASK
    return task
