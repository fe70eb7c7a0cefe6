"""A breast's score against the other's by hand: the odds of both breasts divided, where both were read."""

from types import SimpleNamespace

import numpy as np
import pytest

from server.evaluation.sides import compare_sides
from server.run_folder.predictions import WHO, case_table
from shared.cohort.labels import MALIGNANT
from shared.evaluation import table_row


def answers(given):
    """Cases `patient, exam, side, truth, score` of one model."""
    return case_table(
        table_row(
            SimpleNamespace(key=f"centre-d-{patient}-{exam}-{side}"), "centre-d", "federated", "m",
            {"truth_malignant": float(truth), "score_malignant": score, "threshold_malignant": 0.5},
        )
        for patient, exam, side, truth, score in given
    )  # fmt: skip


def compared(given):
    return compare_sides(answers(given), [MALIGNANT])


def test_the_odds_of_both_breasts_are_divided_as_by_hand():
    table = compared([("p", "e", "L", 1, 0.9), ("p", "e", "R", 0, 0.75)])
    # Odds of 9 and 3: 3 to 1.
    assert table["score_malignant"].tolist() == pytest.approx([0.75, 0.25])
    assert table["truth_malignant"].tolist() == [1.0, 0.0]
    assert table["case"].tolist() == ["centre-d-p-e-L", "centre-d-p-e-R"]
    assert list(table.columns) == [*WHO, "truth_malignant", "score_malignant"]  # no threshold
    assert set(table["arm"]) == {"asymmetry"}
    assert set(table["model_hash"]) == {"m"}


def test_it_is_the_probability_that_this_breast_is_the_only_positive_one():
    draws = np.random.default_rng(0)
    p, q = 0.3, 0.1
    left, right = draws.random((2, 200_000)) < np.array([[p], [q]])
    table = compared([("p", "e", "L", 1, p), ("p", "e", "R", 0, q)])
    assert table["score_malignant"].iloc[0] == pytest.approx(left[left ^ right].mean(), abs=0.01)


def test_what_both_breasts_share_cancels():
    def odds(left, right, factor):
        scores = [factor * value / (1 + factor * value) for value in (left, right)]
        return [("p", "e", side, 0, score) for side, score in zip("LR", scores, strict=True)]

    plain, dense = compared(odds(2.0, 0.5, 1.0)), compared(odds(2.0, 0.5, 7.0))
    np.testing.assert_allclose(plain["score_malignant"], dense["score_malignant"], rtol=1e-12)


def test_certain_answers_for_both_breasts_tell_nothing():
    assert compared([("p", "e", "L", 1, 1.0), ("p", "e", "R", 0, 1.0)])["score_malignant"].tolist() == [0.5, 0.5]


def test_a_breast_without_the_other_one_of_its_exam_is_left_out_and_order_does_not_matter():
    given = [
        ("a", "e", "L", 1, 0.9), ("a", "e", "R", 0, 0.2), ("b", "e", "L", 1, 0.9), ("b", "f", "R", 0, 0.2),
        ("c", "e", "L", 1, 0.9), ("c", "e", "R", 0, None),
    ]  # fmt: skip
    table = compared(given)
    assert table["case"].tolist() == ["centre-d-a-e-L", "centre-d-a-e-R"]
    assert compared(given[::-1]).equals(table)
