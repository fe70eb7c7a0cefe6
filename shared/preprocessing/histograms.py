"""Bins that all sites share, so that their histograms add up."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]
Edges = npt.NDArray[np.float64]

SPACING_EDGES: Edges = np.geomspace(0.2, 12.0, 513)  # voxel spacing, mm; bins are 0.8% wide
SIZE_EDGES: Edges = np.arange(0.0, 402.0, 2.0)  # sides of the breast box, mm
VOLUME_EDGES: Edges = np.geomspace(0.01, 1000.0, 41)  # lesion volume, ml; eight bins per decade
INTENSITY_EDGES: Edges = np.linspace(-8.0, 24.0, 641)  # channels relative to the exam's reference level, no unit


def count(values: npt.ArrayLike, edges: Edges) -> Counts:
    """Histogram of values; those beyond the edges count in the outer bins."""
    inside = np.clip(np.asarray(values, np.float64), edges[0], np.nextafter(edges[-1], edges[0]))
    return np.histogram(inside, edges)[0].astype(np.int64)


def quantile(counts: Counts, edges: Edges, share: float) -> float:
    """Quantile of a histogram, linear within a bin as if its values were evenly spread; `ValueError` if empty."""
    reached = np.cumsum(counts)
    if reached[-1] <= 0:
        raise ValueError("an empty histogram has no quantile")
    wanted = share * float(reached[-1])
    index = int(np.searchsorted(reached, wanted))
    while counts[index] == 0:  # share 0, or rounding, may point to an empty bin
        index += 1
    before = float(reached[index] - counts[index])
    within = min(1.0, max(0.0, (wanted - before) / float(counts[index])))
    return float(edges[index] + within * (edges[index + 1] - edges[index]))
