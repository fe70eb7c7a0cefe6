"""Adjust the p-values of a family of tests for their number."""

from __future__ import annotations

from typing import Literal

import numpy as np

from shared.metrics.intervals import Numbers


def adjust_p_values(p: Numbers, method: Literal["holm", "fdr_bh"]) -> Numbers:
    """Adjust p-values by Holm (1979, Scand J Stat 6:65) or by Benjamini and Hochberg (1995, J R Stat Soc B 57:289).

    Tests that do not exist (NaN) do not count and remain NaN.
    """
    from statsmodels.stats.multitest import multipletests

    adjusted, exists = np.full(len(p), np.nan), np.isfinite(p)
    if exists.any():
        adjusted[exists] = multipletests(p[exists], method=method)[1]
    return adjusted
