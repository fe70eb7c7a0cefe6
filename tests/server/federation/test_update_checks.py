"""The gate: scenarios 39, 40, 41, 44."""

from dataclasses import replace

import numpy as np
import pytest

from server.federation.update_checks import Expected, check_answer, check_sums, check_update, weighed_cases
from server.federation.update_reach import PARAMETER, Reach
from shared.errors import UpdateError
from shared.messages.instruction_reply import Reply
from shared.metrics.sums import Moments, Sums
from shared.tasks import task_named

TASK = task_named("lesion-segmentation")
START = np.full(4, 2, np.float32)
REACH = Reach(START, [(range(4), PARAMETER)], bounded=True, step=1.0, share=0.125, steps=20)
EXPECTED = Expected(site="a", run="r", round=3, manifest="m", cases=24, reach=REACH)
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


@pytest.mark.parametrize("value", [2.0**16, -3e38])
def test_scenario_39_values_beyond_what_the_average_can_hold(value):
    weights = np.ones(4, np.float32)
    weights[2] = value
    assert "below 65536" in refused(weights=weights)


def test_a_parameter_that_no_round_could_move_so_far():
    weights = START.copy()
    weights[2] = 3.25  # by the step and an eighth of 2
    check_update(replace(GOOD, weights=weights), EXPECTED)
    weights[2] = 3.26
    assert "lies 1.26 from the model that was sent, 20 steps of this run's training" in refused(weights=weights)


def test_no_weights_where_none_are_expected():
    with pytest.raises(UpdateError, match="no weights"):
        check_update(GOOD, replace(EXPECTED, reach=None))


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


def test_skipped_cases_and_used_ones_are_those_registered():
    check_update(replace(GOOD, cases=22, skipped=2), EXPECTED)
    assert "claims 22 cases and 1 skipped" in refused(cases=22, skipped=1)
    assert "claims 25 cases and -1 skipped" in refused(cases=25, skipped=-1)
    assert "claims 0 cases and 24 skipped" in refused(cases=0, skipped=24)


def test_an_update_weighs_the_cases_really_used_of_each_label():
    expected = replace(EXPECTED, labels={"er": 20, "ki67_percent": 5})
    registered = {"": 24, "er": 20, "ki67_percent": 5}
    # Without a skipped case the site's word on labels is not even read.
    assert weighed_cases(replace(GOOD, labelled={"receptor-status/er": 1}), expected, "receptor-status") == registered
    told = {"receptor-status/er": 19, "receptor-status/ki67_percent": 5}
    reply = replace(GOOD, cases=22, skipped=2, labelled=told)
    assert weighed_cases(reply, expected, "receptor-status") == {"": 22, "er": 19, "ki67_percent": 5}
    for wrong in ({}, told | {"receptor-status/er": 17}, told | {"receptor-status/er": 21}):
        with pytest.raises(UpdateError, match="cases with er, 20 were registered"):
            weighed_cases(replace(reply, labelled=wrong), expected, "receptor-status")


@pytest.mark.parametrize(("evaluated", "skipped"), [(5, 0), (4, 1), (3, -1)])
def test_an_evaluation_of_more_cases_than_a_site_has_is_refused(evaluated, skipped):
    expected = Expected("a", "r", 3, cases=4)
    check_sums(replace(GOOD, sums=sums(3), skipped=1), expected, TASK)
    with pytest.raises(UpdateError, match=f"evaluates {evaluated} cases, {skipped} skipped, of 4 registered"):
        check_sums(replace(GOOD, sums=sums(evaluated), skipped=skipped), expected, TASK)
    with pytest.raises(UpdateError, match="no sums"):
        check_sums(GOOD, expected, TASK)


def sums(cases, **parts):
    return Sums({"n": cases, "dice": Moments(cases, 0.5 * cases, 0.25 * cases), **parts})


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (sums(2, dice=Moments(2, 99.0, 9801.0)), "'dice' cannot be 99.0 over 2 cases"),  # would win every round
        (sums(2, hd95=Moments(2, -1.0, 1.0)), "'hd95' cannot be"),
        (sums(2, dice=Moments(2, 1.0, 0.1)), "contradicts its sum"),
        (Sums({"n": 3, "dice": Moments(2, 1.0, 0.5)}), "'n' contradicts"),
    ],
)
def test_sums_that_no_cases_can_have_are_refused(wrong, words):
    with pytest.raises(UpdateError, match=f"evaluates to what cannot be: .*{words}"):
        check_sums(replace(GOOD, sums=wrong), Expected("a", "r", 3, cases=4), TASK)


def test_a_site_whose_cases_are_none_of_the_tasks_evaluates_none():
    check_sums(replace(GOOD, sums=Sums.zero(TASK.kinds)), Expected("a", "r", 3, cases=4), TASK)
