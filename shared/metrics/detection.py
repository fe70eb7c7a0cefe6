"""FROC: the share of lesions detected at a given number of false positives a case (Bunch et al. 1977, SPIE 127:124).

A detection is a predicted piece, its certainty the mean probability in it. A case counts its detections by bin of
certainty, so that the curve of many cases comes from sums alone, at a site as on a table.
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
    """Columns of one case's row.

    Parameters
    ----------
    certainty, matched
        `(piece,)`: mean probability of each predicted piece, from `threshold` to 1, and whether it finds a lesion.
    lesions
        Lesions of the reference.
    threshold
        Probability from which a voxel is predicted; the bins divide what lies between it and 1.

    """
    place = np.clip(((certainty - threshold) / (1 - threshold) * BINS).astype(np.int64), 0, BINS - 1)
    hits, extras = (np.bincount(place[chosen], minlength=BINS).tolist() for chosen in (matched, ~matched))
    return dict(zip(COLUMNS, (*hits, *extras, lesions), strict=True))


def froc(rate: float) -> Statistic:
    """Sensitivity at `rate` false positives a case, between two certainties by linear interpolation.

    Where all predicted pieces together are fewer false positives, the sensitivity of all of them. NaN without a lesion.
    """

    def statistic(values: Numbers, weights: Numbers) -> Numbers:
        sums = weights @ values
        # From the most certain bin down: the curve begins at no detection.
        hits, extras = (
            np.cumsum(np.pad(part[:, ::-1], ((0, 0), (1, 0))), axis=1) for part in np.split(sums[:, :-1], 2, axis=1)
        )
        rates, shares = extras / weights.sum(axis=1)[:, None], hits / sums[:, -1:]
        return np.array([_at(rate, *curve) for curve in zip(rates, shares, strict=True)])

    return statistic


def _at(rate: float, rates: Numbers, shares: Numbers) -> float:
    """A curve's height at a rate; where it rises upright, its upper end."""
    after = int(np.searchsorted(rates, rate, side="right"))
    if after == len(rates):
        return float(shares[-1])
    share = (rate - rates[after - 1]) / (rates[after] - rates[after - 1])
    return float(shares[after - 1] + share * (shares[after] - shares[after - 1]))


def froc_metrics(rates: Sequence[float]) -> Iterator[Metric]:
    """Sensitivity at each of some numbers of false positives a case."""
    for rate in rates:
        yield Metric(
            f"froc_{rate:.2f}", "1", f"Sensitivity at {rate:g} FP a case",
            f"Share of lesions detected where {rate:g} false positives a case are allowed; pieces by mean probability.",
            COLUMNS, froc(rate), sent="counts", shown=frozenset({"compared"}),
        )  # fmt: skip
