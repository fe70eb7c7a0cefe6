"""Which round's model a run stands for: chosen on the training sites' validation cases, never on another centre."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from shared.metrics.metric import Metric
from shared.metrics.scores import separation
from shared.metrics.sums import Sums


@dataclass(frozen=True, slots=True)
class Choice:
    """How a task's round is chosen.

    Attributes
    ----------
    title
        What is looked at, as pages write it.
    score
        Of a round's sums, larger is better, with its standard error; `None` where it does not exist.
    within_error
        Take the last round whose score is no more than one standard error below the best (Breiman 1984, section 3.4.3):
        a dozen and a half cases cannot tell rounds apart, and the schedule ends where training was meant to end.
        Otherwise the best one, the first of equals.
    fallback
        Decides where no round has a score.

    """

    title: str
    score: Callable[[Sums], tuple[float, float] | None]
    within_error: bool = False
    fallback: Callable[[Sums], float | None] = lambda _sums: None

    def of(self, sums: Sums) -> float | None:
        """The score of a round's sums."""
        known = self.score(sums)
        return None if known is None else known[0]

    def best(self, rounds: Mapping[int, Sums]) -> int:
        """The chosen round, of one or more.

        Rounds in which fewer validation cases answered than in others are left out: other cases, another mean.
        """
        most = max(item.n for item in rounds.values())
        comparable = {number: item for number, item in rounds.items() if item.n == most}
        scores = {number: known for number, item in comparable.items() if (known := self.score(item)) is not None}
        if not scores:
            scored = [(self.fallback(item), -number) for number, item in comparable.items()]
            return -max((-math.inf if score is None else score, number) for score, number in scored)[1]
        best, error = max(scores.values())
        if self.within_error:
            return max(number for number, (score, _) in scores.items() if score >= best - error)
        return min(number for number, (score, _) in scores.items() if score == best)


def highest_mean(title: str, *metrics: Metric) -> Choice:
    """The round with the highest mean of some metrics."""

    def score(sums: Sums) -> tuple[float, float] | None:
        values = [metric.of(sums) for metric in metrics]
        known = [value for value in values if value is not None]
        return (sum(known) / len(known), 0.0) if len(known) == len(values) else None

    return Choice(title, score)


def separates_best(labels: tuple[str, ...], losses: Sequence[tuple[Metric, float]]) -> Choice:
    """The last round whose mean AUC is within a standard error of the best; without any AUC the lowest mean loss.

    Losses alone would stop at round 1, since networks soon become too certain of themselves. Each of `losses` says how
    much of it weighs as much as one nat of log-loss.
    """

    def fallback(sums: Sums) -> float | None:
        known = [value / scale for metric, scale in losses if (value := metric.of(sums)) is not None]
        return -sum(known) / len(known) if known else None

    return Choice("mean AUC of the labels", lambda sums: separation(sums, labels), within_error=True, fallback=fallback)
