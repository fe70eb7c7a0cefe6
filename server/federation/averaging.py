"""The weighted mean of the sites' updates, summed in whole numbers: the same bits in whatever order they come.

FedAvg (McMahan 2017, algorithm 1): the mean of the sites' weights, weighted by their cases. Here in fixed point: each
value times its site's cases is rounded to a multiple of 2^-27 and added as an int64; the sum is divided once. Addition
of integers is associative, so no order of arrival can show.

Bound
    A value must be below 2^16 in magnitude and all cases together at most 2^20: then the sum stays below
    2^16 x 2^20 x 2^27 = 2^63, where an int64 ends. What is larger is refused, never wrapped.
Error
    An update is off by at most 2^-28 in the sum, so the mean of n updates of N cases by at most n / N x 2^-28 (3.7e-9
    if every site had one case, 2e-10 for 3 sites of 20), before it is rounded once to float32.
Masks
    Sums are taken modulo 2^64, the ring of secure aggregation (Bonawitz 2017): an update may also come as such integers
    with a mask added, and masks that sum to zero leave the mean as it is to the last bit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from shared.errors import UpdateError
from shared.messages.payload import LARGEST_VALUE, fits
from shared.metrics.sums import MOST_CASES
from shared.types import FloatArray

IntegerArray = npt.NDArray[np.int64]

SCALE = 2.0**27
BLOCK = 1 << 15
"""Values handled at once: what is computed of a block stays in the processor's second cache."""
WAITING = 2
"""Updates kept as they came: two of 100 MB are 200 MB of memory, and their sum is made without an array of its own."""
AT_SITE = "stays at the site"
"""The label of what no update moves: no site counts cases with it, so the global values stay."""


class Sized(Protocol):
    """What has a number of elements: a tensor."""

    def numel(self) -> int:
        """Elements."""


def check_values(weights: FloatArray) -> None:
    """Check that an update may enter an average.

    Raises
    ------
    UpdateError
        A value is not a number, or not below `LARGEST_VALUE` in magnitude.

    """
    if all(fits(weights[place]) for place in blocks_of(range(len(weights)))):
        return
    finite = np.isfinite(weights)
    if not finite.all():
        raise UpdateError(f"weights are not finite ({1 - float(finite.mean()):.2%} of the values)")
    raise UpdateError(
        f"a weight has magnitude {float(np.abs(weights).max()):.3g}, an average takes those below {LARGEST_VALUE:.0f}: "
        "lower training.learning_rate"
    )


def to_integers(update: npt.NDArray[Any], cases: int, out: IntegerArray) -> None:
    """Write checked values times their site's cases, as the integers that are summed, into `out` of the same length.

    What comes as such integers, int64, is written as it is.
    """
    if update.dtype == np.int64:
        out[:] = update
        return
    products = out.view(np.float64)
    np.multiply(update, cases * SCALE, out=products, dtype=np.float64)  # exact: 24 bits times 20
    np.rint(products, out=products)
    out[:] = products


class RunningAverage:
    """A weighted mean that grows by one update at a time; parts of the array may belong to labels that sites lack.

    Up to `WAITING` updates are kept as they came and then summed in one pass over memory, which is what a sum costs.

    Parameters
    ----------
    start
        The global model, float32 `(n,)`: a part that no site has the label of keeps its values.
    parts
        Stretches of the array, in order, with the label that owns each, from `owned_parts`: a part is averaged over the
        sites that have its label. None: all of it belongs to the label "", which every site has.

    """

    def __init__(self, start: FloatArray, parts: Sequence[tuple[range, str]] | None = None) -> None:
        self._start = start
        parts = parts or [(range(len(start)), "")]
        self._blocks = [(block, label) for part, label in parts for block in blocks_of(part)]
        self._sums: IntegerArray | None = None
        self._waiting: list[tuple[npt.NDArray[Any], Mapping[str, int]]] = []
        self._cases: Counter[str] = Counter()
        self._total, self._scratch = np.empty((2, BLOCK), np.int64)

    def add(self, update: npt.NDArray[Any], cases: Mapping[str, int]) -> None:
        """Add one update `(n,)`, which stays as it is until `mean`: float32 that `check_values` let pass, or int64.

        The integers are what `to_integers` made of it at its site, with or without a mask. `cases` are the site's, by
        label ("": those the task uses).

        Raises
        ------
        UpdateError
            The cases are none, or more than the average can take; another length. Nothing was added.

        """
        if min(cases.values(), default=0) < 0 or not any(cases.values()):
            raise UpdateError(f"cannot weigh an update by {cases.get('', 0)} cases")
        self._add(update, cases)

    def remove(self, update: FloatArray, cases: Mapping[str, int]) -> None:
        """Take out a float32 update that was added with these cases: of whole numbers nothing is left over."""
        self._add(update, {label: -count for label, count in cases.items()})

    def _add(self, update: npt.NDArray[Any], cases: Mapping[str, int]) -> None:
        if update.shape != self._start.shape:
            raise UpdateError(f"weights have shape {update.shape}, the average has {self._start.shape}")
        together = self._cases.copy()
        together.update(cases)
        if max(together.values()) > MOST_CASES:
            raise UpdateError(f"an average takes at most {MOST_CASES} cases of all sites, not {max(together.values())}")
        self._cases = together
        if len(self._waiting) == WAITING:
            if self._sums is None:
                self._sums = np.zeros(len(self._start), np.int64)
            for place, label in self._blocks:
                self._sum(place, label)
            self._waiting.clear()
        self._waiting.append((update, cases))

    def mean(self) -> FloatArray:
        """The weighted mean, float32 `(n,)`, in the memory of the sums: an average gives its mean once.

        Raises
        ------
        UpdateError
            Nothing was added.

        """
        if not any(self._cases.values()):
            raise UpdateError("no update was added")
        n = len(self._start)
        result = np.empty(n, np.float32) if self._sums is None else self._sums.view(np.float32)[:n]
        for place, label in self._blocks:  # in order: what is written lies before the sums that are still to be read
            if cases := self._cases[label]:
                quotient = self._scratch.view(np.float64)[: place.stop - place.start]
                result[place] = np.divide(self._sum(place, label), cases * SCALE, out=quotient)
            else:
                result[place] = self._start[place]
        self._cases.clear()
        self._waiting.clear()
        return result

    def _sum(self, place: slice, label: str) -> IntegerArray:
        """A block's sum with the waiting updates: kept in the sums, or where there are none yet until the next call."""
        size = place.stop - place.start
        integers = self._scratch[:size]
        terms = [(update, cases[label]) for update, cases in self._waiting if cases.get(label, 0)]
        if self._sums is None:
            total = self._total[:size]
            update, cases = terms.pop(0)
            to_integers(update[place], cases, total)
        else:
            total = self._sums[place]
        for update, cases in terms:
            to_integers(update[place], cases, integers)
            total += integers
        return total


def owned_parts(state: Mapping[str, Sized], owner: Callable[[str], str]) -> list[tuple[range, str]]:
    """Stretches of the flat array by the label that owns their tensors; see `payload.flatten` for the order."""
    parts, start = [], 0
    for label, tensors in groupby(sorted(state.items()), key=lambda item: owner(item[0])):
        stop = start + sum(value.numel() for _, value in tensors)
        parts.append((range(start, stop), label))
        start = stop
    return parts


def blocks_of(part: range) -> Iterator[slice]:
    """The places of a stretch of the array, `BLOCK` values at once."""
    for start in part[::BLOCK]:
        yield slice(start, min(start + BLOCK, part.stop))
