"""The running average of updates: one reply in memory at a time, and the same bits in whatever order they come.

FedAvg (McMahan 2017, algorithm 1): the mean of the sites' weights, weighted by their cases.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt

from shared.errors import UpdateError
from shared.types import FloatArray

DoubleArray = npt.NDArray[np.float64]

BLOCK = 1 << 15
"""Values handled at once: six arrays of a block stay in the processor's second cache."""
_MOST_THREADS = 4  # memory is no faster for more
LARGEST_COUNT = 1 << 29
"""A float32 has 24 significant bits: its product with a count below 2^29 is exact in float64's 53."""
_SPLITTER = float((1 << 27) + 1)


class Sized(Protocol):
    """What has a number of elements: a tensor."""

    def numel(self) -> int:
        """Elements."""


class RunningAverage:
    """A weighted mean that grows by one update at a time.

    Each product of a float32 value and a count is exact in float64. The sum is kept in two float64 arrays: the second
    takes the rounding error of every addition to the first (TwoSum: Knuth, The Art of Computer Programming 2, 4.2.2,
    theorem B). For fewer than 2^13 cases it stays exact as long as, value by value, the largest site's weight is below
    2^70 times the smallest that is not zero, so no order of arrival can show; `mean` rounds the exact mean once.
    """

    def __init__(self, values: int) -> None:
        self._sum: DoubleArray = np.zeros(values)
        self._lost: DoubleArray = np.empty(values)  # of the second update on
        self.cases = 0
        self._updates = 0

    def add(self, weights: FloatArray, cases: int) -> None:
        """Add one checked update, float32 `(n,)`, of `cases` cases.

        Raises
        ------
        UpdateError
            The count is not between 1 and 2^29, or the length differs.

        """
        if not 0 < cases < LARGEST_COUNT:
            raise UpdateError(f"cannot weigh an update by {cases} cases")
        if weights.shape != self._sum.shape:
            raise UpdateError(f"weights have shape {weights.shape}, the average has {self._sum.shape}")
        first, second = self.cases == 0, self._updates == 1

        def add_to(places: range) -> None:
            scratch = [np.empty(min(BLOCK, len(places))) for _ in range(4)]
            for part in _blocks(places):
                product, after, added, rest = (item[: part.stop - part.start] for item in scratch)
                np.multiply(weights[part], float(cases), out=product, dtype=np.float64)
                if first:
                    # A copy, not an addition to zero: a lone site's -0.0 stays what it is.
                    self._sum[part] = product
                    continue
                before = self._sum[part]
                np.add(before, product, out=after)
                np.subtract(after, before, out=added)
                np.subtract(after, added, out=rest)
                np.subtract(before, rest, out=rest)
                np.subtract(product, added, out=added)
                rest += added
                if second:
                    self._lost[part] = rest  # a copy for the same reason
                else:
                    self._lost[part] += rest
                self._sum[part] = after

        _on_all_cores(add_to, len(weights))
        self.cases += cases
        self._updates += 1

    def mean(self) -> FloatArray:
        """The weighted mean, float32 `(n,)`: the exact one, rounded once.

        Raises
        ------
        UpdateError
            Nothing was added.

        """
        if self.cases == 0:
            raise UpdateError("no update was added")
        result: FloatArray = np.empty(self._sum.shape, np.float32)

        def divide(places: range) -> None:
            for part in _blocks(places):
                high = self._sum[part]
                # x + -0.0 is x for every x, also for -0.0
                low = self._lost[part] if self._updates > 1 else np.full(len(high), -0.0)
                result[part] = _divide(high, low, float(self.cases))

        _on_all_cores(divide, len(result))
        return result


def _blocks(places: range) -> Iterator[slice]:
    """The blocks of a stretch of the array."""
    for start in places[::BLOCK]:
        yield slice(start, min(start + BLOCK, places.stop))


def _on_all_cores(work: Callable[[range], None], values: int) -> None:
    """Do to every stretch of an array what concerns no other one: NumPy leaves other threads alone meanwhile."""
    threads = max(1, min(os.cpu_count() or 1, _MOST_THREADS, values // (8 * BLOCK)))
    bounds = np.linspace(0, values, threads + 1).astype(int).tolist()
    stretches = [range(start, stop) for start, stop in pairwise(bounds)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, stretches))


class OwnedAverage:
    """A weighted mean in which parts of the flat array belong to labels, and count only the sites that have them.

    Parameters
    ----------
    start
        The global model, float32 `(n,)`: a part that no site has the label of keeps its values.
    owned
        Indices of each label's part; what no label owns is every site's.

    """

    def __init__(self, start: FloatArray, owned: Mapping[str, npt.NDArray[np.int64]]) -> None:
        self._start = start
        self._parts: dict[str, npt.NDArray[np.int64] | slice] = {"": _others(len(start), owned), **owned}
        self._averages = {label: RunningAverage(start[places].size) for label, places in self._parts.items()}

    def add(self, weights: FloatArray, cases: Mapping[str, int]) -> None:
        """Add one checked update of a site with so many cases a label ("": those the task uses)."""
        for label, places in self._parts.items():
            part = weights[places]
            if cases.get(label, 0) > 0 and part.size:
                self._averages[label].add(part, cases[label])

    def mean(self) -> FloatArray:
        """The weighted mean, float32 `(n,)`.

        Raises
        ------
        UpdateError
            Nothing was added.

        """
        if not any(average.cases for average in self._averages.values()):
            raise UpdateError("no update was added")
        if len(self._parts) == 1:  # no label owns anything: nothing is kept
            return self._averages[""].mean()
        result = self._start.copy()
        for label, places in self._parts.items():
            if self._averages[label].cases:
                result[places] = self._averages[label].mean()
        return result


def _others(values: int, owned: Mapping[str, npt.NDArray[np.int64]]) -> npt.NDArray[np.int64] | slice:
    """Places that no label owns; where none owns any, that is a view instead of a list as long as the model."""
    if not owned:
        return slice(None)
    shared = np.ones(values, np.bool_)
    for places in owned.values():
        shared[places] = False
    return np.flatnonzero(shared)


def owned_places(state: Mapping[str, Sized], owner: Callable[[str], str]) -> dict[str, npt.NDArray[np.int64]]:
    """Indices in the flat array of the tensors that each label owns; see `payload.flatten` for the order."""
    found: dict[str, list[npt.NDArray[np.int64]]] = {}
    start = 0
    for name, value in sorted(state.items()):
        stop = start + value.numel()
        if owner(name):
            found.setdefault(owner(name), []).append(np.arange(start, stop))
        start = stop
    return {label: np.concatenate(places) for label, places in found.items()}


def _divide(high: DoubleArray, low: DoubleArray, divisor: float) -> FloatArray:
    """`(high + low) / divisor` to the nearest float32.

    Rounding to float64 and then to float32 could be off by one step. So the float64 quotient is rounded to odd first:
    where it is not exact, its last bit is set to 1, and the second rounding is then the right one (Boldo and Melquiond
    2008, theorem 1).
    """
    quotient = (high + low) / divisor
    product, error = _two_product(quotient, divisor)
    # high - product is exact: the two are within a factor of two of each other, or one is zero.
    rest = ((high - product) - error) + low
    even = (quotient.view(np.int64) & 1) == 0
    odd = np.nextafter(quotient, np.copysign(np.inf, rest))
    rounded: FloatArray = np.where((rest != 0) & even, odd, quotient).astype(np.float32)
    return rounded


def _two_product(a: DoubleArray, b: float) -> tuple[DoubleArray, DoubleArray]:
    """`a * b` and its rounding error, both float64 (Dekker 1971)."""
    product = a * b
    a_high = _SPLITTER * a - (_SPLITTER * a - a)
    b_high = _SPLITTER * b - (_SPLITTER * b - b)
    a_low, b_low = a - a_high, b - b_high
    error: DoubleArray = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low
    return product, error
