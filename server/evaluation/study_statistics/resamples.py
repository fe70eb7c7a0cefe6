"""The evaluated cases of one task and role, and resamples of their patients that every figure shares.

All figures of a study rest on one set of resamples a centre, so that any two of them can be compared, and so that a
centre's figure is the same whether the centre is looked at alone or among the others.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from server.run_folder.arms import ENSEMBLE, FEDERATED, LOCAL, POOLED, is_local
from shared.config.sections import EvaluationConfig
from shared.errors import RunError
from shared.metrics.intervals import Numbers, draw_patients
from shared.metrics.metric import Metric
from shared.reproducibility import derive_seed

Places = npt.NDArray[np.int64]

StudyRole = Literal["external", "test"]
EXTERNAL: StudyRole = "external"
TEST: StudyRole = "test"
ALL = "all"
WHO = ["role", "held_out", "seed", "arm", "model_hash", "centre", "patient", "case"]
_NO_SEED = 0  # the study's own draws: no training seed has a say in them


@dataclass(frozen=True, slots=True)
class Sample:
    """Answers of one model, or of one model for each fold: one row for each case, in the order of the panel's cases.

    Attributes
    ----------
    seed
        Training seed.
    at
        Places of the cases in `Panel.cases`, ascending.
    values
        `(case, column)`, finite, for a metric's statistic.
    answered
        Places of the cases with the metric's label, also those that a share such as the sensitivity leaves out.
    truths
        `(answered case, label)` of 0 and 1 (-1: lacking), for the counts of classes.

    """

    seed: int
    at: Places
    values: Numbers
    answered: Places
    truths: Numbers

    def only(self, keep: npt.NDArray[np.bool_]) -> Sample:
        """The answers to some of the panel's cases."""
        chosen, told = keep[self.at], keep[self.answered]
        return Sample(self.seed, self.at[chosen], self.values[chosen], self.answered[told], self.truths[told])


@dataclass(frozen=True, slots=True)
class Panel:
    """Cases of one task and role.

    Attributes
    ----------
    role
        `external`: held-out centres; `test`: test cases of training centres.
    table
        One row for each fold, seed, arm and case, sorted; columns `at`: the case's place in `cases`, and `model`: a
        number for each fold, seed and arm, ascending.
    cases
        `case, patient, centre`, sorted by case.
    weights
        `(case, resample)`: how often each case is drawn; patients are drawn within centres.
    arms
        In the order of reports; `local` stands for the mean of a fold's local models.

    """

    role: StudyRole
    table: pd.DataFrame
    cases: pd.DataFrame
    weights: Numbers
    arms: tuple[str, ...]

    @property
    def centres(self) -> list[str]:
        """Centres with cases."""
        return sorted(set(self.cases["centre"]))

    def at_centre(self, centre: str) -> npt.NDArray[np.bool_]:
        """Which cases lie in a centre, or all."""
        if centre == ALL:
            return np.ones(len(self.cases), np.bool_)
        return np.asarray(self.cases["centre"] == centre)

    def samples(self, metric: Metric, arm: str) -> list[Sample]:
        """Answers of an arm: one sample for each seed, over which figures are averaged.

        Of held-out centres a sample has one model for each fold, and so each case once. `local` has several samples for
        each seed: the k-th takes the k-th local model of every fold, in the order of their names, and starts again at
        the first where a fold has fewer. Of test cases each model is a sample, as folds evaluate the same cases again.
        None where the metric does not apply to the arm's values.
        """
        named = [name for name in self.arms if is_local(name)] if arm == LOCAL else [arm]
        mine = self.table.loc[self.table["arm"].isin(named)]
        values = metric.values(mine)
        known = np.asarray(np.isfinite(values).all(axis=1))
        answered = metric.answered(mine) if metric.labels else known
        mine, values, known = mine.loc[answered], values[answered], known[answered]
        if not metric.applies(values[known]):
            return []
        truths = np.nan_to_num(
            mine.reindex(columns=[f"truth_{label}" for label in metric.labels]).to_numpy(np.float64), nan=-1.0
        )
        at = mine["at"].to_numpy(np.int64)
        samples = []
        for seed, rows in _series(mine, apart=self.role == TEST):
            order = rows[np.argsort(at[rows], kind="stable")]
            own = order[known[order]]
            samples.append(Sample(seed, at[own], values[own], at[order], truths[order]))
        return samples


def _series(table: pd.DataFrame, *, apart: bool) -> Iterator[tuple[int, Places]]:
    """Seed and rows of each sample."""
    models: dict[int, dict[str, list[Places]]] = {}
    starts = np.flatnonzero(np.diff(table["model"].to_numpy(np.int64), prepend=-1))
    named = table[["seed", "held_out"]].iloc[starts].itertuples(index=False)
    for (seed, fold), rows in zip(named, np.split(np.arange(len(table)), starts)[1:], strict=True):
        models.setdefault(seed, {}).setdefault(fold, []).append(rows)
    for seed, folds in models.items():
        if apart:
            yield from ((seed, rows) for parts in folds.values() for rows in parts)
            continue
        for k in range(math.lcm(*(len(parts) for parts in folds.values()))):
            yield seed, np.concatenate([parts[k % len(parts)] for parts in folds.values()])


def panel_of(table: pd.DataFrame, role: StudyRole, config: EvaluationConfig) -> Panel:
    """Cases of a role from a table that `check_predictions` let pass, with the resamples of their patients."""
    mine = table[table["role"] == role].sort_values(["seed", "held_out", "arm", "case"], ignore_index=True)
    cases = mine[["case", "patient", "centre"]].drop_duplicates().sort_values("case", ignore_index=True)
    weights = np.empty((len(cases), config.bootstrap))
    for centre, rows in cases.groupby("centre").indices.items():
        patients = cases["patient"].iloc[rows].tolist()
        seed = derive_seed(_NO_SEED, "bootstrap", str(centre))
        weights[rows] = draw_patients(patients, [str(centre)] * len(rows), config.bootstrap, seed)[1].T
    place = pd.Series(np.arange(len(cases)), index=cases["case"])
    model = mine.groupby(["seed", "held_out", "arm"], sort=True).ngroup()
    return Panel(role, mine.assign(at=mine["case"].map(place), model=model), cases, weights, _ordered(mine["arm"]))


def _ordered(arms: pd.Series[str]) -> tuple[str, ...]:
    names = set(arms)
    local = sorted(arm for arm in names if is_local(arm))
    return (*(arm for arm in (FEDERATED, POOLED, ENSEMBLE) if arm in names), *([LOCAL, *local] if local else []))


def check_predictions(predictions: pd.DataFrame) -> None:
    """Refuse what is no per-case table of a study.

    Raises
    ------
    RunError
        A column is missing, an arm answers a case of a fold twice, an external case lies outside the centre held out,
        or a case has two patients or centres; the message names no case.

    """
    if missing := {*WHO} - {*predictions.columns}:
        raise RunError(f"the study's predictions lack {', '.join(sorted(missing))}")
    if predictions.duplicated(["role", "held_out", "seed", "arm", "case"]).any():
        raise RunError("the study's predictions hold an arm's answer for one case of a fold and seed twice")
    outside = (predictions["role"] == EXTERNAL) & (predictions["centre"] != predictions["held_out"])
    if outside.any():
        raise RunError("the study's predictions call a case external that does not lie in the centre held out")
    if predictions[["case", "patient", "centre"]].drop_duplicates()["case"].duplicated().any():
        raise RunError("the study's predictions give one case two patients or centres")
