"""Which of the labels of a mask are meant: `#2` behind a mask's path in the table, `#1,2` several, `#all` all of them.

A mask with one label needs no choice. One with several is refused without, and so are values that are no labels: of
an image or of probabilities, whatever is chosen.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from shared.errors import StudyError

Choice = tuple[int, ...] | Literal["all"] | None
"""Labels of a mask that are meant; None where the table names none."""

HOW_TO_CHOOSE = "write the lesion's (or tissue's) behind the path: #2, several as #1,2, all as #all"
_MARK = re.compile(r"(?P<file>.+)#(?P<choice>all|\d+(?:\s*[,;+]\s*\d+)*)\s*$", re.IGNORECASE)
_MOST_LABELS = 128
"""An image of 8 bits has more values."""
_MOST_NAMED = 12
_WHOLE = 1e-3
"""So far may a label be from a whole number, which a scale of the file can cause."""


def split_choice(cell: str) -> tuple[str, Choice]:
    """Path and choice in the cell of a mask; without a choice the whole cell is the path."""
    match = _MARK.match(cell)
    if match is None:
        return cell, None
    words = match["choice"]
    return match["file"], "all" if words.lower() == "all" else tuple(map(int, re.findall(r"\d+", words)))


def choose(labels: Collection[int], choice: Choice) -> list[int]:
    """Labels that are meant, of those that a mask holds or, of a SEG, declares.

    Raises
    ------
    StudyError
        `unreadable_mask`: several without a choice, or no chosen one is there; the message names those that are.

    """
    there = sorted(labels)
    if choice == "all" or (choice is None and len(there) == 1):
        return there
    if wanted := sorted(set(choice or ()) & set(there)):
        return wanted
    named = ", ".join(map(str, there[:_MOST_NAMED])) + (", ..." if len(there) > _MOST_NAMED else "")
    fault = f"the mask holds the labels {named}" + ("" if choice is None else ", and not the chosen one")
    raise StudyError("unreadable_mask", f"{fault}; {HOW_TO_CHOOSE}")


def marked(values: npt.NDArray[Any], choice: Choice) -> npt.NDArray[np.bool_]:
    """Voxels of the labels that are meant, of an array of values of which 0 is no label; bool, of the same shape.

    Raises `StudyError` (`unreadable_mask`) as `choose`, and where the values are no labels.
    """
    labels = _labels_of(values)
    if not labels or len(wanted := choose(labels, choice)) == len(labels):
        return np.asarray(values != 0)
    return np.asarray(np.isin(np.rint(values), wanted))


def _labels_of(values: Iterable[npt.NDArray[Any]]) -> set[int]:
    """Labels but 0 that occur; a layer at a time, as an image would give millions of values."""
    labels: set[int] = set()
    for layer in values:
        inside = layer[layer != 0].astype(np.float64)
        whole = np.rint(inside)
        if (np.abs(inside - whole) > _WHOLE).any():
            raise StudyError(
                "unreadable_mask",
                f"the mask holds values between whole numbers (as {inside[np.abs(inside - whole) > _WHOLE][0]:.3g}), "
                "as an image or probabilities do: save the outline as 0 and 1",
            )
        labels |= {int(label) for label in np.unique(whole)}
        if labels and (min(labels) < 0 or len(labels) > _MOST_LABELS):
            raise StudyError(
                "unreadable_mask",
                f"the mask's values are no labels (over {_MOST_LABELS} of them, or below 0; {min(labels)} to "
                f"{max(labels)} so far), as of an image: name the outline, saved as 0 and 1",
            )
    return labels
