"""Where the subtype ensemble looks, by subtype: the external centre's cases, their saliency in shells of the lesion.

Wang et al. (Radiology: Imaging Cancer 2025;7(3)) saw the saliency of triple-negative cancers around the tumour and that
of luminal ones within. Here that is a number with an interval: `saliency_summary`, subtype `DIFFERENCE`. Subtypes
differ in size and texture, so a network that learnt nothing shows a difference too (Adebayo et al. 2018,
arXiv:1810.03292): what remains beyond that of an untrained network is `LEARNT`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import astuple

import numpy as np
import pandas as pd
import torch
from torch import nn

from shared.cohort.labels import SUBTYPES
from shared.cohort.site_folder import patient_of
from shared.config.run_config import RunConfig
from shared.config.sections import EvaluationConfig, PatchSection
from shared.errors import ConfigError
from shared.inference import pick_device
from shared.metrics.intervals import Numbers, Statistic, bootstrap_patients, weighted_mean
from shared.modalities.mri.cache import PreparedMri
from shared.modalities.mri.lesion_patch import cut_patch
from shared.modalities.mri.plan import MriPlan
from shared.models.ensemble_resnet import BRANCHES, PLANES
from shared.reproducibility import derive_seed
from shared.saliency import REGIONS, log_odds, region_means, saliencies
from shared.tasks import task_named
from shared.types import FloatArray

ENSEMBLE = "ensemble"
READERS = (ENSEMBLE, *BRANCHES)
COLUMNS = ("case", "patient", "subtype", "reader", "region", "value")
SUMMARY = ("reader", "subtype", "region", "value", "low", "high", "n", "patients")
DIFFERENCE = "triple_negative minus luminal"
LEARNT = "triple_negative minus luminal, beyond untrained"
FINDING = "surroundings"
"""Region in which the two are compared."""
_COMPARED = ("triple_negative", "luminal_a", "luminal_b")  # the first against the others


def saliency_maps(
    model: nn.Module, patch: FloatArray, subtype: str, *, samples: int = 8, seed: int = 0
) -> dict[str, FloatArray]:
    """Maps of the log odds of a subtype for each of `READERS`, float32 `(z, y, x)`; see `shared.saliency`."""
    label = SUBTYPES.index(subtype)
    scores = {ENSEMBLE: log_odds(label)} | {name: log_odds(label, index) for index, name in enumerate(BRANCHES)}
    return saliencies(model, patch, scores, samples=samples, seed=seed)


def saliency_table(
    model: nn.Module,
    cases: Sequence[PreparedMri],
    view: RunConfig,
    plan: MriPlan,
    *,
    per_subtype: int = 8,
    samples: int = 8,
) -> pd.DataFrame:
    """Saliency of each case's true subtype by reader and region.

    Parameters
    ----------
    model
        The ensemble, trained.
    cases
        Prepared cases; those without a subtype are passed over.
    view, plan
        The configuration as the task sees it, and the federation's plan.
    per_subtype
        The first so many cases of each subtype in order of their keys. They are the cost: half a second each with the
        quick ensemble on one core, 15 s for 32.
    samples
        Noisy copies a case; a case's noise does not depend on which others are in the table.

    Returns
    -------
    One row a case, reader and region, `COLUMNS`: `value` is the mean saliency a voxel in the region over that in all
    that is looked at, NaN for a region without a voxel. The volume branch is looked at in the whole patch, a plane's
    branch in its middle plane: 1 is no preference. The ensemble is looked at in the whole patch too, but its planes
    cross in the lesion: compare its subtypes, not its regions.

    Raises
    ------
    ConfigError
        The task at hand does not say by which classes it is explained.
    StudyError
        See `lesion_patch.cut_patch`; a prepared case has a reference in its breast.

    """
    class_of = task_named(view.task).explained
    if class_of is None:
        raise ConfigError(f"'{view.task}' declares no classes by which its network is explained")
    torch.set_num_threads(view.compute.threads)
    model.to(pick_device(view))
    rows = []
    for case, subtype in _first(cases, lambda case: class_of(case.labels, view), per_subtype):
        patch = cut_patch(case.region(), case.native_mask, plan, view.section(PatchSection).patch)
        maps = saliency_maps(model, patch, subtype, samples=samples, seed=derive_seed(0, "saliency", case.key))
        patient = patient_of(case.key)
        rows += [
            (case.key, patient, subtype, reader, region, value)
            for reader, found in maps.items()
            for region, value in region_means(_seen(reader, found), _seen(reader, patch[-1])).items()
        ]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"value": "float64"})


def _first(
    cases: Sequence[PreparedMri], class_of: Callable[[PreparedMri], str | None], per_subtype: int
) -> list[tuple[PreparedMri, str]]:
    """The first cases of each subtype in order of their keys, with it."""
    taken = Counter[str]()
    chosen = []
    for case in sorted(cases, key=lambda case: case.key):
        subtype = class_of(case)
        if subtype is not None and taken[subtype] < per_subtype:
            taken[subtype] += 1
            chosen.append((case, subtype))
    return chosen


def _seen(reader: str, field: FloatArray) -> FloatArray:
    """The part of a patch's `(z, y, x)` in which a reader can have a preference.

    Of a plane's branch the middle plane: over the whole patch the lesion would win by where the planes lie.
    """
    if reader not in PLANES:
        return field
    axis = PLANES.index(reader)
    return np.take(field, [field.shape[axis] // 2], axis=axis)


def saliency_summary(
    table: pd.DataFrame, config: EvaluationConfig, seed: int, *, untrained: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Mean by reader, subtype and region, and how much more triple-negative cancers are looked at around the lesion.

    Parameters
    ----------
    table
        Of `saliency_table`.
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
