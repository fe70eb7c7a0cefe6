"""The cases of a role, the resamples of their patients, and the samples of an arm; tables that are refused."""

import numpy as np
import pandas as pd
import pytest

from server.evaluation.study_statistics.resamples import ALL, check_predictions, panel_of
from shared.errors import RunError
from shared.tasks import task_named
from tests.server.evaluation.study_statistics.invented_studies import (
    by_hand,
    cohort,
    outlined,
    settings,
    study,
)

DICE = task_named("lesion-segmentation").headline
EVALUATION = settings().evaluation


def test_patients_are_drawn_whole_and_within_their_centre():
    panel = panel_of(outlined(cohort(), arms=("federated",)), "external", EVALUATION)
    for centre, size in panel.cases.groupby("centre")["patient"].nunique().items():
        first = panel.cases[panel.cases["centre"] == centre].drop_duplicates("patient").index
        assert panel.weights[first].sum(axis=0) == pytest.approx(size)
    for rows in panel.cases.groupby("patient").indices.values():
        assert (panel.weights[rows] == panel.weights[rows[0]]).all()


def test_a_centres_draws_do_not_depend_on_which_others_there_are():
    whole = panel_of(outlined(cohort(), arms=("federated",)), "external", EVALUATION)
    alone = panel_of(outlined(cohort(), arms=("federated",), folds=("b",)), "external", EVALUATION)
    np.testing.assert_array_equal(whole.weights[whole.at_centre("b")], alone.weights)
    assert whole.at_centre(ALL).all()


def test_a_metric_that_does_not_apply_to_an_arms_values_has_no_samples():
    panel = panel_of(by_hand([(f"a-p{i}-e-L", "federated", 0, 0.5) for i in range(12)]), "external", EVALUATION)
    ratio = task_named("lesion-segmentation").metric("volume_ratio_bias")
    assert panel.samples(ratio, "federated") == []
    assert len(panel.samples(DICE, "federated")) == 1


def test_tables_that_cannot_be_right_are_refused():
    table = by_hand([("a-p1-e-L", "federated", 0, 0.5), ("b-p1-e-L", "federated", 0, 0.6)])
    wrong = {
        "lack role": table.drop(columns="role"),
        "twice": pd.concat([table, table]),
        "held out": table.assign(held_out="b"),
        "two patients": pd.concat([table, table.assign(seed=1, patient="a-p9")]),
    }
    for message, broken in wrong.items():
        with pytest.raises(RunError, match=message):
            check_predictions(broken)
    with pytest.raises(RunError, match="cohort lists a case twice"):
        study(table, pd.concat([cohort(), cohort()]))
