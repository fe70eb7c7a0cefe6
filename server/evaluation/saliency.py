"""Where the subtype ensemble looks, by subtype, over the external centre's cases: saliency in shells of the lesion.

Wang et al. (Radiology: Imaging Cancer 2025;7(3)) saw the saliency of triple-negative cancers around the tumour and that
of luminal ones within. Here that is a number with an interval: `saliency_summary`, subtype `DIFFERENCE`. Subtypes
differ in size and texture, so a network that learnt nothing shows a difference too (Adebayo et al. 2018,
arXiv:1810.03292): what remains beyond that of an untrained network is `LEARNT`.
"""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pandas as pd

from shared.cohort.labels import SUBTYPES
from shared.config.sections import EvaluationConfig
from shared.metrics.intervals import Numbers, Statistic, bootstrap_patients, weighted_mean
from shared.reproducibility import derive_seed
from shared.saliency import REGIONS
from shared.tasks.subtype_saliency import READERS

SUMMARY = ("reader", "subtype", "region", "value", "low", "high", "n", "patients")
DIFFERENCE = "triple_negative minus luminal"
LEARNT = "triple_negative minus luminal, beyond untrained"
FINDING = "surroundings"
"""Region in which the two are compared."""
_COMPARED = ("triple_negative", "luminal_a", "luminal_b")  # the first against the others


def saliency_summary(
    table: pd.DataFrame, config: EvaluationConfig, seed: int, *, untrained: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Mean by reader, subtype and region, and how much more triple-negative cancers are looked at around the lesion.

    Parameters
    ----------
    table
        Of `explain_cases.explained_table`, its values those of `subtype_saliency.figures`.
    config, seed
        Resamples and confidence of the intervals, which are bootstrapped over patients, and the seed of the draws.
    untrained
        The table of the same cases by the network before training (`explain_cases.untrained`), with the same noise; or
        those of several starts one below the other, which are averaged. The interval is over patients: with one start
        only, another would move the quick ensemble's figure by some 0.03.

    Returns
    -------
    One row a reader, subtype and region, `SUMMARY`; NaN where a figure or its interval does not exist. `n` counts cases
    that have the region. Each reader's row of subtype `DIFFERENCE` and region `FINDING` is the mean of the
    triple-negative cases minus that of the luminal ones (A and B as one group). With `untrained` the row of `LEARNT`
    has the same of each case's value minus its untrained value: above 0 speaks for the paper's finding.

    """
    known = table[table["value"].notna()].sort_values("case")
    tables = {DIFFERENCE: known}
    if untrained is not None:
        keys = ["case", "reader", "region"]
        before = untrained.dropna(subset="value").groupby(keys, as_index=False)["value"].mean()
        pairs = known.merge(before, on=keys)
        tables[LEARNT] = pairs.assign(value=pairs["value_x"] - pairs["value_y"]).sort_values("case")
    draw = derive_seed(seed, "saliency-bootstrap")

    def estimated(cases: pd.DataFrame, values: Numbers, statistic: Statistic) -> tuple[float | int | None, ...]:
        patients = cases["patient"].tolist()
        return astuple(
            bootstrap_patients(values, patients, statistic, n=config.bootstrap, seed=draw, confidence=config.confidence)
        )

    rows = []
    for reader in READERS:
        own = known[known["reader"] == reader]
        for subtype in SUBTYPES:
            for region in REGIONS:
                cases = own[(own["subtype"] == subtype) & (own["region"] == region)]
                figure = estimated(cases, cases[["value"]].to_numpy(np.float64), weighted_mean)
                rows.append((reader, subtype, region, *figure))
        for name, values in tables.items():
            compared = (values["reader"] == reader) & values["subtype"].isin(_COMPARED) & (values["region"] == FINDING)
            cases = values[compared]
            groups = np.column_stack([cases["value"], cases["subtype"] == _COMPARED[0]]).astype(np.float64)
            rows.append((reader, name, FINDING, *estimated(cases, groups, _difference)))
    kinds = dict.fromkeys(("value", "low", "high"), "float64") | dict.fromkeys(("n", "patients"), "int64")
    return pd.DataFrame(rows, columns=list(SUMMARY)).astype(kinds)


def _difference(values: Numbers, weights: Numbers) -> Numbers:
    """Mean where the second column is 1 minus mean where it is 0; NaN for a resample without one of them."""
    value, one = values.T
    result: Numbers = weights @ (value * one) / (weights @ one) - weights @ (value * (1 - one)) / (weights @ (1 - one))
    return result
