"""How much of a heat map lies within the lesion, over cases: beside the lesion's area, and the untrained network's.

A network that learnt nothing has warm lesions too where they lie in the middle of what is read, or are bright (Adebayo
et al. 2018, arXiv:1810.03292): what remains beyond its share is `LEARNT`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from server.evaluation.explain_cases import NETWORKS
from shared.config.sections import EvaluationConfig
from shared.metrics.intervals import Estimate, bootstrap_patients
from shared.reproducibility import derive_seed
from shared.tasks.mammogram_heat import AREA, LESION

TRAINED, UNTRAINED = NETWORKS
LEARNT = "learnt"


def heat_shares(tables: Mapping[str, pd.DataFrame], config: EvaluationConfig, seed: int) -> dict[str, Estimate]:
    """Means over cases, each of which is the mean over its views, with bootstrapped intervals over patients.

    `tables` are those of `explain_cases.read_table`. Returned are the share of the heat within the outline `TRAINED`
    and `UNTRAINED`, that of the pixels `AREA` over the cases of the first, and the difference of both networks, case by
    case, `LEARNT`. Cases without an outline, and those of which no place raises the score, are in none.
    """
    by_case = {name: _by_case(table) for name, table in tables.items()}
    shares = {name: table[LESION] for name, table in by_case.items()}
    learnt = (shares[TRAINED] - shares[UNTRAINED]).dropna()
    values = shares | {AREA: by_case[TRAINED][AREA], LEARNT: learnt}
    return {
        name: bootstrap_patients(
            own.to_numpy(np.float64),
            own.index.get_level_values("patient").tolist(),
            n=config.bootstrap,
            seed=derive_seed(seed, "heat-bootstrap"),
            confidence=config.confidence,
        )
        for name, own in values.items()
    }


def _by_case(table: pd.DataFrame) -> pd.DataFrame:
    """Both shares by case and patient: means over the views that have them."""
    views = table.dropna(subset="value").pivot_table("value", ["case", "patient", "reader"], "region")
    return views.reindex(columns=[LESION, AREA]).dropna().groupby(["case", "patient"]).mean()
