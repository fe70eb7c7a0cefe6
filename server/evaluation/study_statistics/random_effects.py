"""Held-out centres together by random effects: each arm's figure, and each difference."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from server.evaluation.study_statistics.estimates import Figure
from shared.metrics.metric import Metric
from shared.metrics.random_effects import random_effects, random_effects_of_auc


def pooled(
    metric: Metric, quantity: str, by_centre: Mapping[str, Figure], confidence: float
) -> dict[str, object] | None:
    """Pool a quantity over centres as a row of the meta-analysis.

    Standard errors are those of the bootstrap. AUCs are pooled on the logit scale, differences of AUCs are not. A
    centre where the figure or its error does not exist, or an AUC of 0 or 1 that has no logit, is left out of `k`.

    Parameters
    ----------
    metric
        What is pooled.
    quantity
        An arm, or `federated-<arm>` for a difference.
    by_centre
        Figures of the held-out centres.
    confidence
        Of both intervals.

    Returns
    -------
    `None` with fewer than two centres.

    """
    area = metric.name.startswith("auc_") and not quantity.startswith("federated-")
    known = [figure for figure in by_centre.values() if figure.error > 0 and (not area or 0 < figure.value < 1)]
    pool = random_effects_of_auc if area else random_effects
    found = pool([figure.value for figure in known], [figure.error for figure in known], confidence)
    if found is None:
        return None
    return {
        "quantity": quantity,
        "metric": metric.name,
        "unit": metric.unit,
        "k": found.k,
        "estimate": found.estimate,
        "ci_low": found.low,
        "ci_high": found.high,
        "pi_low": np.nan if found.prediction_low is None else found.prediction_low,
        "pi_high": np.nan if found.prediction_high is None else found.prediction_high,
        "tau2": found.tau2,
        "i2": found.i2,
        "q": found.q,
        "q_p": found.q_p,
    }
