"""One file a task: its model, target, loss and augmentation; and the table of tasks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from shared.config import AugmentationConfig, RunConfig


@dataclass(frozen=True, slots=True)
class Task:
    """What the training loop must know of a task."""

    name: str
    build_model: Callable[[RunConfig], nn.Module]
    loss: Callable[[list[Tensor], Tensor], Tensor]
    augment: Callable[[Tensor, Tensor, AugmentationConfig, Generator], tuple[Tensor, Tensor]]


def task_named(name: str) -> Task:
    """Return a task by the name configurations use; the configuration has refused unknown names before."""
    from shared.tasks import augmentation, lesion_segmentation

    tasks = {
        "lesion-segmentation": Task(
            "lesion-segmentation",
            lesion_segmentation.build_model,
            lesion_segmentation.loss,
            augmentation.augment,
        ),
    }
    return tasks[name]
