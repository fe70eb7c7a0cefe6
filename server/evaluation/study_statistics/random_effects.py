"""Held-out centres together by random effects: each arm's figure, and each difference."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from server.evaluation.study_statistics.estimates import SeedMean
from server.run_folder.arms import FEDERATED
from shared.metrics.metric import Metric
from shared.metrics.random_effects import random_effects, random_effects_of_auc


def pooled(
    metric: Metric, quantity: str, by_centre: Mapping[str, SeedMean], confidence: float
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
    area = metric.is_auc and not quantity.startswith(f"{FEDERATED}-")
    known = [figure for figure in by_centre.values() if figure.error > 0 and (not area or 0 < figure.value < 1)]
    pool = random_effects_of_auc if area else random_effects
    pooling = pool([figure.value for figure in known], [figure.error for figure in known], confidence)
    if pooling is None:
        return None
    return {
        "quantity": quantity,
        "metric": metric.name,
        "unit": metric.unit,
        "k": pooling.k,
        "estimate": pooling.estimate,
        "ci_low": pooling.low,
        "ci_high": pooling.high,
        "pi_low": np.nan if pooling.prediction_low is None else pooling.prediction_low,
        "pi_high": np.nan if pooling.prediction_high is None else pooling.prediction_high,
        "tau2": pooling.tau2,
        "i2": pooling.i2,
        "q": pooling.q,
        "q_p": pooling.q_p,
    }
