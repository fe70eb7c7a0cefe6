"""p-values of a family of tests, adjusted for their number."""

from __future__ import annotations

from typing import Literal

import numpy as np

from shared.metrics.intervals import Numbers


def adjusted(p: Numbers, method: Literal["holm", "fdr_bh"]) -> Numbers:
    """Adjusted p of a family, by Holm (1979, Scand J Stat 6:65) or by Benjamini and Hochberg (1995, J R Stat Soc B 57).

    Tests that do not exist (NaN) do not count, and stay NaN.
    """
    from statsmodels.stats.multitest import multipletests

    found, exists = np.full(len(p), np.nan), np.isfinite(p)
    if exists.any():
        found[exists] = multipletests(p[exists], method=method)[1]
    return found
