"""Which round's model a run stands for: chosen on the training sites' validation cases, never on another centre."""

from __future__ import annotations

import math

from server.run_folder.journal import RoundRecord
from shared.errors import RunError
from shared.metrics.score_sums import ClassificationSums


def best_record(records: list[RoundRecord]) -> RoundRecord:
    """The round whose model the training sites' validation cases choose.

    Segmentation: the best mean Dice, the first of equals. Classification: the last round whose mean AUC is no more
    than one standard error below the best (Breiman 1984, section 3.4.3): a dozen and a half cases cannot tell rounds
    apart, the schedule ends where training was meant to end, and log-loss would stop at round 1, since networks soon
    become too certain of themselves. Without any AUC the best log-loss decides. Rounds in which fewer validation cases
    answered than in others are left out: other cases, another mean.

    Raises
    ------
    RunError
        No round was committed.

    """
    trained = [item for item in records if item.round > 0]
    if not trained:
        raise RunError("no round was committed")
    sums = {item.round: item.validation() for item in trained}
    most = max(item.n for item in sums.values())
    comparable = [item for item in trained if sums[item.round].n == most]
    areas = {
        number: found
        for number, part in sums.items()
        if isinstance(part, ClassificationSums) and part.n == most and (found := part.separation())
    }
    if areas:
        best, error = max(areas.values())
        return [item for item in comparable if item.round in areas and areas[item.round][0] >= best - error][-1]
    return max(comparable, key=lambda item: (_or_worst(sums[item.round].score), -item.round))


def _or_worst(score: float | None) -> float:
    return -math.inf if score is None else score
