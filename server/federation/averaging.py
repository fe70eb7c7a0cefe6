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
from typing import Protocol

import numpy as np
import numpy.typing as npt

from shared.errors import UpdateError
from shared.types import FloatArray

IntegerArray = npt.NDArray[np.int64]

SCALE = 2.0**27
LARGEST_VALUE = 2.0**16
MOST_CASES = 2**20
BLOCK = 1 << 15
"""Values handled at once: what is computed of a block stays in the processor's second cache."""
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
    blocks = (weights[place] for place in _blocks(range(len(weights))))
    if all(block.max() < LARGEST_VALUE and block.min() > -LARGEST_VALUE for block in blocks):
        return
    finite = np.isfinite(weights)
    if not finite.all():
        raise UpdateError(f"weights are not finite ({1 - float(finite.mean()):.2%} of the values)")
    raise UpdateError(
        f"a weight has magnitude {float(np.abs(weights).max()):.3g}, an average takes those below {LARGEST_VALUE:.0f}: "
        "lower training.learning_rate"
    )


def to_integers(weights: FloatArray, cases: int, out: IntegerArray) -> None:
    """Write checked values times their site's cases, as the integers that are summed, into `out` of the same length."""
    products = out.view(np.float64)
    np.multiply(weights, cases * SCALE, out=products, dtype=np.float64)  # exact: 24 bits times 20
    np.rint(products, out=products)
    out[:] = products


class RunningAverage:
    """A weighted mean that grows by one update at a time; parts of the array may belong to labels that sites lack.

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
        self._blocks = [(block, label) for part, label in parts for block in _blocks(part)]
        self._sums: IntegerArray = np.zeros(len(start), np.int64)
        self._cases: Counter[str] = Counter()

    def add(self, weights: FloatArray, cases: Mapping[str, int]) -> None:
        """Add one update, float32 `(n,)`, that `check_values` let pass.

        `cases` are the site's, by label ("": those the task uses).

        Raises
        ------
        UpdateError
            The cases are none, or more than the average can take; another length. Nothing was added.

        """
        scratch = np.empty(BLOCK, np.int64)
        for place, weight in self._enter(cases, weights.shape):
            to_integers(weights[place], weight, integers := scratch[: place.stop - place.start])
            self._sums[place] += integers

    def add_integers(self, integers: IntegerArray, cases: Mapping[str, int]) -> None:
        """Add what `to_integers` made of an update at its site, with or without a mask; otherwise as `add`."""
        for place, _ in self._enter(cases, integers.shape):
            self._sums[place] += integers[place]

    def mean(self) -> FloatArray:
        """The weighted mean, float32 `(n,)`, in the memory of the sums: an average gives its mean once.

        Raises
        ------
        UpdateError
            Nothing was added.

        """
        if not self._cases:
            raise UpdateError("no update was added")
        result = self._sums.view(np.float32)[: len(self._start)]
        scratch = np.empty(BLOCK)
        for place, label in self._blocks:  # in order: what is written lies before the sums that are still to be read
            if cases := self._cases[label]:
                quotient = np.divide(self._sums[place], cases * SCALE, out=scratch[: place.stop - place.start])
                result[place] = quotient
            else:
                result[place] = self._start[place]
        self._cases.clear()
        return result

    def _enter(self, cases: Mapping[str, int], shape: tuple[int, ...]) -> list[tuple[slice, int]]:
        """Count an update's cases; return the blocks in which it takes part, and with how many cases."""
        if min(cases.values(), default=0) < 0 or not any(cases.values()):
            raise UpdateError(f"cannot weigh an update by {cases.get('', 0)} cases")
        if shape != self._start.shape:
            raise UpdateError(f"weights have shape {shape}, the average has {self._start.shape}")
        together = self._cases + Counter(cases)
        if max(together.values()) > MOST_CASES:
            raise UpdateError(f"an average takes at most {MOST_CASES} cases of all sites, not {max(together.values())}")
        self._cases = together
        return [(place, cases[label]) for place, label in self._blocks if cases.get(label, 0)]


def owned_parts(state: Mapping[str, Sized], owner: Callable[[str], str]) -> list[tuple[range, str]]:
    """Stretches of the flat array by the label that owns their tensors; see `payload.flatten` for the order."""
    parts, start = [], 0
    for label, tensors in groupby(sorted(state.items()), key=lambda item: owner(item[0])):
        stop = start + sum(value.numel() for _, value in tensors)
        parts.append((range(start, stop), label))
        start = stop
    return parts


def _blocks(part: range) -> Iterator[slice]:
    for start in part[::BLOCK]:
        yield slice(start, min(start + BLOCK, part.stop))
