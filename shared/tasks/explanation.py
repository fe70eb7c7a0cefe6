"""How a task's network is explained: what the server asks of it, whatever the images and the method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from shared.cohort.labels import CaseLabels, Label

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import nn

    from shared.config.run_config import RunConfig

Figure = tuple[str, str, float]
"""Who looks (a branch, a view), where, and how much; NaN where there is no such figure."""
REST = "rest"
"""Class of the cases that lack the only label of a task."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where a network looks for the class that a case has.

    A class is the name of one of the task's `scored`, or `REST`. The functions take a network, the prepared case, the
    plan, the configuration as the task sees it and the case's class.

    Attributes
    ----------
    method
        By which the page knows how to draw it.
    stem
        Beginning of its files' names, which no other task has.
    class_of
        Class of a case; None where its labels do not settle it.
    figures
        Of one case; none of a network that cannot be explained so.
    picture
        What is stored of one case of each class, by name; it also takes the network before training, second.
    class_column
        Of the stored table.

    """

    method: Literal["saliency", "grad_cam"]
    stem: str
    class_of: Callable[[CaseLabels, RunConfig], str | None]
    figures: Callable[[nn.Module, Any, Any, RunConfig, str], Sequence[Figure]]
    picture: Callable[[nn.Module, nn.Module, Any, Any, RunConfig, str], Mapping[str, npt.NDArray[Any]]]
    class_column: str = "class"


def class_titles(scored: Sequence[Label]) -> dict[str, str]:
    """Titles of the classes of a task by name: its scored labels, or whether a case has the only one."""
    if len(scored) > 1:
        return {label.name: label.title for label in scored}
    return {name: f"{one.title}: {has}" for one in scored for name, has in ((one.name, "yes"), (REST, "no"))}
