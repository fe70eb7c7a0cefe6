"""The gate: scenarios 39, 40, 41, 44."""

from dataclasses import replace

import numpy as np
import pytest

from server.gate import Expected, check_answer, check_update
from shared.errors import UpdateError
from shared.messages import Reply

EXPECTED = Expected(site="a", run="r", round=3, manifest="m", cases=24, values=4)
GOOD = Reply(site="a", run="r", round=3, manifest="m", weights=np.ones(4, np.float32), cases=24, loss=0.5)


def refused(**changed):
    with pytest.raises(UpdateError) as caught:
        check_update(replace(GOOD, **changed), EXPECTED)
    return str(caught.value)


def test_a_good_update_passes():
    check_update(GOOD, EXPECTED)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scenario_39_values_that_are_not_finite(value):
    weights = np.ones(4, np.float32)
    weights[2] = value
    assert "not finite (25.00%" in refused(weights=weights)


def test_scenario_39_a_loss_that_is_no_number():
    assert "loss" in refused(loss=float("nan"))


@pytest.mark.parametrize("shape", [(3,), (5,), (1,), (4, 1), (1, 4)])
def test_scenario_40_shapes_also_those_that_would_broadcast(shape):
    assert "shape" in refused(weights=np.ones(shape, np.float32))


def test_scenario_40_another_manifest():
    assert "names, shapes or types" in refused(manifest="other")


def test_scenario_40_no_weights():
    assert "no weights" in refused(weights=None)


@pytest.mark.parametrize("cases", [0, -1, 23, 25, 10**9])
def test_scenario_41_another_number_of_cases_than_registered(cases):
    assert f"claims {cases} cases, 24 were registered" in refused(cases=cases)


def test_scenario_44_an_answer_to_another_round_or_run():
    assert "round 2" in refused(round=2)
    assert "replay" in refused(run="yesterday")


def test_an_answer_in_anothers_name():
    assert "'a' was asked" in refused(site="b")


def test_a_reported_failure_is_passed_on():
    with pytest.raises(UpdateError, match="could not do it: RunError"):
        check_answer(replace(GOOD, error="RunError: no training case"), EXPECTED)
