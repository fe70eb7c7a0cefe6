"""Thresholds and areas from all single scores: the oracle of what is computed from histograms."""

import numpy as np

from shared.metrics.roc import delong


def youden_threshold(truth, score):
    """Threshold with the largest sensitivity + specificity - 1 (Youden 1950), half-way between two scores.

    Half-way, as R's pROC has it, because a cut on a validation case's own score puts that very case on the edge. Of
    equal ones the lowest, which misses fewest. `None` with a single class.
    """
    positive, values = np.asarray(truth).astype(np.bool_), np.asarray(score, np.float64)
    if positive.all() or not positive.any():
        return None
    levels = np.unique(values)
    cuts = np.concatenate([[-np.inf], 0.5 * (levels[1:] + levels[:-1]), [np.inf]])
    called = values[None] >= cuts[:, None]
    gain = called[:, positive].mean(axis=1) - called[:, ~positive].mean(axis=1)
    best = int(np.argmax(np.round(gain, 12)))
    return float(np.clip(cuts[best], levels[0], np.nextafter(levels[-1], np.inf)))


def macro_auc(labels, scores):
    """Mean of the classes' areas, each class against all others; `scores` has a column `(case,)` for each class."""
    return np.mean([delong([label == name for label in labels], score).value for name, score in scores.items()])
