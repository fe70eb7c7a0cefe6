"""Both breasts of an exam compared: what a model says of a breast against what it says of the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from server.run_folder.arms import ASYMMETRY
from server.run_folder.predictions import WHO
from shared.cohort.labels import Label

_LEAST = 1e-12  # a softmax in float32 may round to 0 or 1, and a breast would then stand out by whatever the other has
_OTHER = {"L": "R", "R": "L"}


def compare_sides(cases: pd.DataFrame, labels: Sequence[Label]) -> pd.DataFrame:
    """Answers of one model as arm `asymmetry`: its odds for a breast, divided by those for the other one of the exam.

    The score is p (1 - q) / (p (1 - q) + q (1 - p)) of the breast's probability p and the other's q: that this breast
    is the positive one where exactly one of both is, by Bayes' rule if the two errors are independent. What both
    breasts share, such as density or the detector, leaves it alone; of a cancer in both it sees nothing. Nothing is
    fitted, so there is no threshold.

    `cases` is a per-case table of one arm and model; breasts whose other one has no answer are left out.
    """
    truths, scores = ([f"{part}_{label.name}" for label in labels] for part in ("truth", "score"))
    own = cases.reindex(columns=[*WHO, *truths, *scores]).dropna(subset=scores)
    others = own.assign(case=own["case"].map(lambda case: case[:-1] + _OTHER[case[-1]]))[["case", *scores]]
    both = own.merge(others, on="case", suffixes=("", "_other")).sort_values("case", ignore_index=True)
    p, q = (
        both[names].to_numpy(np.float64).clip(_LEAST, 1 - _LEAST)
        for names in (scores, [f"{name}_other" for name in scores])
    )
    both[scores] = p * (1 - q) / (p * (1 - q) + q * (1 - p))
    return both.assign(arm=ASYMMETRY)[[*WHO, *truths, *scores]]
