"""Time left, curves and tiles, by hand."""

import pytest

from server.monitoring.training_progress import pace, site_tiles, task_course

TASK = "lesion-segmentation"


def a_site(loss, status="accepted", reason=""):
    score = None if loss is None else 0.25
    return {"status": status, "reason": reason, "cases": 3, "loss": loss, "score": score}


def a_round(number, seconds=10.0, score=0.5, **sites):
    return {
        "round": number,
        "seconds": seconds,
        "hash": "abc",
        "score": score,
        "committed": 1.0,
        "sites": {
            name: {"status": "accepted", "reason": "", "cases": 3, "loss": loss, "score": 0.25}
            for name, loss in sites.items()
        },
    }


def test_rounds_are_in_order_and_what_json_lacks_is_none():
    course = task_course(TASK, [a_round(2, a=float("inf")), a_round(1, score=float("nan"), a=0.5)], 4)
    assert [item["round"] for item in course["rounds"]] == [1, 2]
    assert course["rounds"][0]["score"] is None
    assert course["rounds"][1]["sites"]["a"]["loss"] is None
    assert "committed" not in course["rounds"][0]
    assert course["total"] == 4


@pytest.mark.parametrize(
    ("seconds", "planned", "left"),
    [
        ([], 3, None),
        ([10.0], 3, None),  # one round is no pace
        ([10.0, 20.0], 3, 15.0),
        ([1000.0, 10.0, 10.0, 10.0, 10.0, 10.0], 8, 20.0),  # the last five
        ([10.0, None, 20.0], 4, 15.0),
        ([10.0, 20.0], 2, 0.0),
        ([10.0, 20.0], None, None),
    ],
)
def test_the_time_left_is_that_of_the_last_rounds(seconds, planned, left):
    rounds = [a_round(number, value) for number, value in enumerate(seconds, start=1)]
    assert task_course(TASK, rounds, planned)["left_s"] == left


def test_a_run_has_a_time_left_once_every_task_has_one():
    assert pace([]) is None
    assert pace([{"left_s": 5.0}, {"left_s": None}]) is None
    assert pace([{"left_s": 5.0}, {"left_s": 0.0}]) == 5.0


def test_a_tile_has_the_sites_state_and_its_last_numbers():
    course = task_course(TASK, [a_round(1, a=0.9, b=0.8), a_round(2, a=0.7)], 4)
    course["rounds"][1]["sites"]["b"] = {
        "status": "absent",
        "reason": "no answer",
        "cases": 0,
        "loss": None,
        "score": None,
    }
    states = {"a": {"state": "training", "since": float("nan"), "reason": ""}}
    tiles = {tile["name"]: tile for tile in site_tiles(["a", "b", "c"], states, {"a": 21}, [course])}
    assert list(tiles) == ["a", "b", "c"]
    assert (tiles["a"]["state"], tiles["a"]["since"], tiles["a"]["cases"], tiles["a"]["loss"]) == (
        "training",
        None,
        21,
        0.7,
    )
    assert (tiles["b"]["state"], tiles["b"]["reason"], tiles["b"]["loss"]) == ("absent", "no answer", 0.8)
    assert (tiles["c"]["state"], tiles["c"]["cases"], tiles["c"]["loss"]) == ("waiting", None, None)


def test_tiles_are_of_the_last_task_that_has_begun():
    first, second = task_course("a", [a_round(1, a=0.5)], 1), task_course("b", [a_round(1, a=0.1)], 2)
    waiting = task_course("c", [], 2)
    (tile,) = site_tiles(["a"], {}, {}, [first, second, waiting])
    assert tile["loss"] == 0.1
