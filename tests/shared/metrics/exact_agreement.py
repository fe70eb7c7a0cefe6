"""Bias and 95% limits of agreement written out from all pairs: the oracle of the weighted statistics."""

import numpy as np


def limits(a, b, *, log=False):
    """Bias, lower and upper limit of `a - b` (Bland and Altman 1986), or of `a / b` on the log scale."""
    difference = np.log(a) - np.log(b) if log else np.subtract(a, b)
    bias, half = difference.mean(), 1.959964 * difference.std(ddof=1)
    bounds = [bias, bias - half, bias + half]
    return np.exp(bounds).tolist() if log else [float(bound) for bound in bounds]
