"""A figure over seeds: the mean of each seed's statistic, and its draws under the same resamples of patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from server.evaluation.study_statistics.resamples import Panel, Sample
from shared.metrics.intervals import Numbers, Statistic
from shared.metrics.metric import Metric

_FEWEST = 10  # positives, negatives, or patients of a segmentation: below, a figure is shown but not ranked
_DEFINED = 0.9  # share of resamples from which an interval exists, as in `bootstrap_patients`


@dataclass(frozen=True, slots=True)
class SeedMean:
    """The mean over seeds of a figure, or of a difference of two, with its resamples."""

    value: float  # NaN where it is undefined
    draws: Numbers  # (resample,); empty where none were made
    n: int  # distinct cases that it rests on
    patients: int  # distinct patients that it rests on
    seeds: int  # number of training seeds
    ranked: bool  # whether it may be compared
    note: str  # why not, or why it is undefined

    def interval(self, confidence: float) -> tuple[float, float]:
        """Percentile interval; NaN without resamples, with one patient, or where a tenth of them is undefined."""
        known = self._known()
        if not len(known):
            return np.nan, np.nan
        low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
        return float(low), float(high)

    def row(self, confidence: float) -> dict[str, object]:
        """What the tables of a study say of it."""
        low, high = self.interval(confidence)
        return {
            "value": self.value,
            "ci_low": low,
            "ci_high": high,
            "n": self.n,
            "patients": self.patients,
            "seeds": self.seeds,
            "ranked": self.ranked,
            "note": self.note,
        }

    @property
    def error(self) -> float:
        """Standard error: the resamples' standard deviation; NaN where there is no interval."""
        known = self._known()
        return float(known.std(ddof=1)) if len(known) else np.nan

    def _known(self) -> Numbers:
        known = self.draws[np.isfinite(self.draws)]
        enough = self.patients > 1 and np.isfinite(self.value) and len(known) > _DEFINED * len(self.draws)
        return known if enough else known[:0]


def over_seeds(statistic: Statistic, samples: Sequence[Sample], weights: Numbers) -> tuple[float, Numbers]:
    """Average a statistic over samples, as the data are and under each resample of the patients.

    There is at least one sample, each with at least one case; weights are `(case, resample)`, of all cases of the
    panel. A case that a seed leaves undefined is missing from that seed's sample alone; every sample is weighed by the
    same draws, as another seed is no new patient. Undefined (NaN) where one sample's statistic is.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        values = [statistic(sample.values, np.ones((1, len(sample.at))))[0] for sample in samples]
        draws = [statistic(sample.values, weights[sample.at].T) for sample in samples]
    return float(np.mean(values)), np.mean(draws, axis=0)


def figure_of(panel: Panel, metric: Metric, samples: Sequence[Sample]) -> SeedMean | None:
    """A metric over an arm's samples; `None` without a case, NaN where its label's class is absent."""
    answered = [sample for sample in samples if len(sample.at) or (metric.labels and len(sample.answered))]
    if not answered:
        return None
    known = [sample for sample in answered if len(sample.at)]
    if not known:
        return _described(panel, metric, answered, np.nan, np.empty(0))
    weights = panel.weights if metric.interval != "none" else panel.weights[:, :0]
    return _described(panel, metric, known, *over_seeds(metric.statistic, known, weights))


def difference_of(panel: Panel, metric: Metric, pairs: Sequence[tuple[Sample, Sample]]) -> SeedMean | None:
    """First minus second over the pairs of `paired`, which must have their cases in common; `None` without a pair."""
    if not pairs:
        return None
    ours, theirs = ([pair[side] for pair in pairs] for side in (0, 1))
    value, draws = over_seeds(metric.statistic, ours, panel.weights)
    other, other_draws = over_seeds(metric.statistic, theirs, panel.weights)
    return _described(panel, metric, ours, value - other, draws - other_draws)


def paired(ours: Sequence[Sample], theirs: Sequence[Sample]) -> list[tuple[Sample, Sample]]:
    """Pairs of the same seed, cut to the cases that both have; pairs without a case are left out."""
    pairs = []
    for other in theirs:
        for sample in ours:
            if sample.seed == other.seed:
                keep = np.zeros(1 + max(sample.answered.max(initial=0), other.answered.max(initial=0)), np.bool_)
                keep[np.intersect1d(sample.at, other.at)] = True
                pairs.append((sample.only(keep), other.only(keep)))
    return [pair for pair in pairs if len(pair[0].at)]


def _described(panel: Panel, metric: Metric, samples: Sequence[Sample], value: float, draws: Numbers) -> SeedMean:
    value = value if np.isfinite(value) else np.nan  # a denominator of 0 makes an ICC infinite
    at = np.unique(np.concatenate([sample.at for sample in samples]))
    _, first = np.unique(np.concatenate([sample.answered for sample in samples]), return_index=True)
    truths = np.concatenate([sample.truths for sample in samples])[first]
    patients = panel.cases["patient"].iloc[at].nunique()
    ranked, note = _standing(metric, value, patients, truths)
    return SeedMean(value, draws, len(at), patients, len({sample.seed for sample in samples}), ranked, note)


def _standing(metric: Metric, value: float, patients: int, truths: Numbers) -> tuple[bool, str]:
    """Whether a figure is ranked, and the note that says why not."""
    if not metric.labels:
        thin = f"thin: {patients} patients" if patients < _FEWEST else ""
        return bool(not thin and np.isfinite(value)), thin if np.isfinite(value) else "undefined"
    counts = np.stack([(truths == 1).sum(axis=0), (truths == 0).sum(axis=0)])
    # Of several labels the thinnest counts.
    positives, negatives = counts[:, counts.min(axis=0).argmin()].tolist()
    thin = f"thin: {positives} positives, {negatives} negatives" if min(positives, negatives) < _FEWEST else ""
    if np.isfinite(value):
        return not thin, thin
    return False, "undefined: one class" if not min(positives, negatives) else f"undefined{thin and f'; {thin}'}"
