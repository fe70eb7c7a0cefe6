"""FROC: share of lesions detected at a given number of false positives per case (Bunch et al. 1977, SPIE 127:124).

A detection is a connected piece of the predicted mask; its certainty is its mean probability. Detections of a case are
counted by bin of certainty, so that the curve of many cases can be computed from sums, at a site or from a table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from shared.metrics.intervals import Numbers, Statistic
from shared.metrics.metric import Metric
from shared.metrics.sums import BINS

HITS = tuple(f"detected_{index:02d}" for index in range(BINS))
EXTRAS = tuple(f"false_positives_{index:02d}" for index in range(BINS))
COLUMNS = (*HITS, *EXTRAS, "reference_lesions")


def detections(
    certainty: npt.NDArray[np.float64], matched: npt.NDArray[np.bool_], lesions: int, threshold: float
) -> dict[str, int]:
    """Columns of the row of one case, with `lesions` as the number of lesions in its reference.

    `certainty` is the mean probability of each predicted piece, and `matched` whether it matches a lesion, `(piece,)`.
    At `threshold` a voxel is predicted; the bins divide the range from it to 1.
    """
    place = np.clip(((certainty - threshold) / (1 - threshold) * BINS).astype(np.int64), 0, BINS - 1)
    hits, extras = (np.bincount(place[chosen], minlength=BINS).tolist() for chosen in (matched, ~matched))
    return dict(zip(COLUMNS, (*hits, *extras, lesions), strict=True))


def froc(rate: float) -> Statistic:
    """Sensitivity at `rate` false positives per case, with linear interpolation between two certainties.

    If all predicted pieces together have fewer false positives, it is the sensitivity of all pieces. NaN without
    lesions.
    """

    def statistic(values: Numbers, weights: Numbers) -> Numbers:
        sums = weights @ values
        # From the most certain bin downwards; the curve starts without detections.
        hits, extras = (
            np.cumsum(np.pad(part[:, ::-1], ((0, 0), (1, 0))), axis=1) for part in np.split(sums[:, :-1], 2, axis=1)
        )
        rates, shares = extras / weights.sum(axis=1)[:, None], hits / sums[:, -1:]
        return np.array([_at(rate, *curve) for curve in zip(rates, shares, strict=True)])

    return statistic


def _at(rate: float, rates: Numbers, shares: Numbers) -> float:
    """Height of a curve at a rate; the upper end where the curve rises vertically."""
    after = int(np.searchsorted(rates, rate, side="right"))
    if after == len(rates):
        return float(shares[-1])
    share = (rate - rates[after - 1]) / (rates[after] - rates[after - 1])
    return float(shares[after - 1] + share * (shares[after] - shares[after - 1]))


def froc_metrics(rates: Sequence[float]) -> Iterator[Metric]:
    """Sensitivity at each of several numbers of false positives per case."""
    for rate in rates:
        yield Metric(
            f"froc_{rate:.2f}", "1", f"Sensitivity at {rate:g} FP per case",
            f"Share of lesions detected with {rate:g} false positives per case; pieces are ranked by mean probability.",
            COLUMNS, froc(rate), sent="counts", shown=frozenset({"compared"}),
        )  # fmt: skip
