"""The running average of updates: one reply in memory at a time, and the same bits in whatever order they come.

FedAvg (McMahan 2017, algorithm 1): the mean of the sites' weights, weighted by their cases.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shared.errors import UpdateError
from shared.types import FloatArray

BLOCK = 1 << 16
"""Values handled at once: both running sums of a block stay in the processor's cache."""
LARGEST_COUNT = 1 << 29
"""A float32 has 24 significant bits: times a count below 2^29 the product is exact in float64's 53."""


class RunningAverage:
    """A weighted mean that grows by one update at a time.

    Each product of a float32 value and a count is exact in float64; the sum carries the rounding error of every
    addition in a second array (TwoSum, Knuth, The Art of Computer Programming 2, 4.2.2, theorem B), so it is right to
    about 2^-104 and no order of arrival shows in the float32 result.
    """

    def __init__(self, values: int) -> None:
        self._sum: npt.NDArray[np.float64] = np.zeros(values)
        self._lost: npt.NDArray[np.float64] = np.zeros(values)
        self.cases = 0

    def add(self, weights: FloatArray, cases: int) -> None:
        """Add one checked update of `cases` cases.

        Raises
        ------
        UpdateError
            The count is not between 1 and 2^29, or the length differs.

        """
        if not 0 < cases < LARGEST_COUNT:
            raise UpdateError(f"cannot weigh an update by {cases} cases")
        if weights.shape != self._sum.shape:
            raise UpdateError(f"weights have shape {weights.shape}, the average has {self._sum.shape}")
        for start in range(0, len(weights), BLOCK):
            part = slice(start, start + BLOCK)
            before = self._sum[part]
            product = weights[part].astype(np.float64) * cases
            after = before + product
            added = after - before
            self._lost[part] += (before - (after - added)) + (product - added)
            self._sum[part] = after
        self.cases += cases

    def mean(self) -> FloatArray:
        """The weighted mean, float32 `(n,)`.

        Raises
        ------
        UpdateError
            Nothing was added.

        """
        if self.cases == 0:
            raise UpdateError("no update was added")
        result: FloatArray = ((self._sum + self._lost) / self.cases).astype(np.float32)
        return result
