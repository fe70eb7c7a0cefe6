"""A run's folder as a snapshot, against values counted by hand."""

import json
import os
from pathlib import Path

import pytest

from server.monitoring import snapshot as reading
from server.monitoring.snapshot import snapshot
from shared.errors import ConfigError
from tests.server.monitoring.conftest import SITES, TASK, RunFolder, entry


@pytest.fixture
def two_rounds(run):
    run.progress("train", 2, 4, "lesion-segmentation, round 3: training")
    run.commit(0, {}, 0.0)
    run.commit(
        1, {"centre-a": entry(loss=0.9, dice=[0.2, 0.4]), "centre-b": entry(cases=7, loss=0.8, dice=[0.6])}, 10.0
    )
    run.commit(2, {"centre-a": entry(loss=0.7, dice=[0.5, 0.7]), "centre-b": entry("absent", reason="too late")}, 14.0)
    return run


def test_a_run_is_told_in_the_numbers_of_its_files(two_rounds):
    two_rounds.write("cases.json", {"centre-a": {"role": "training", "included": {"train": 12, "test": 3}}})
    states = {
        "centre-a": {"state": "training", "since": 1_767_323_000.5, "reason": ""},
        "centre-b": {"state": "absent", "since": 1_767_323_001.0, "reason": "no sign for 60 s"},
    }
    two_rounds.write("sites.json", {"sites": states, "at": 1_767_323_002.0})
    found = snapshot(two_rounds.runs)
    assert (found["run"], found["state"], found["outcome"], found["phase"]) == ("first", "running", None, "train")
    assert (found["doing"], found["done"], found["total"]) == ("training", 2, 4)
    assert found["text"] == "lesion-segmentation, round 3: training"
    assert found["started"] == 1_767_323_045.0  # 2026-01-02 03:04:05 UTC
    assert found["at"] == 1_767_323_050.0
    assert found["left_s"] == pytest.approx(2 * (10 + 14) / 2)
    assert found["phantom"] is False
    first, second = found["sites"]
    assert first == {
        "name": "centre-a", "state": "training", "since": 1_767_323_000.5, "reason": "", "cases": 12, "loss": 0.7,
        "score": pytest.approx(0.6),
    }  # fmt: skip
    # Of a site that missed the last round, the figures are of the round before.
    assert second == {
        "name": "centre-b", "state": "absent", "since": 1_767_323_001.0, "reason": "no sign for 60 s", "cases": None,
        "loss": 0.8, "score": pytest.approx(0.6),
    }  # fmt: skip
    (task,) = found["tasks"]
    assert (task["task"], task["measure"], task["total"]) == (TASK, "mean Dice", 4)
    assert [item["round"] for item in task["rounds"]] == [1, 2]
    assert [item["seconds"] for item in task["rounds"]] == [10.0, 14.0]
    assert [item["hash"] for item in task["rounds"]] == ["100000000000", "200000000000"]
    assert [item["score"] for item in task["rounds"]] == [pytest.approx(1.2 / 3), pytest.approx(0.6)]
    assert task["rounds"][1]["sites"]["centre-b"]["status"] == "absent"
    assert task["rounds"][1]["sites"]["centre-b"]["reason"] == "too late"
    assert task["rounds"][0]["sites"]["centre-b"]["cases"] == 7


def test_without_a_file_of_states_the_last_round_says_how_a_site_is(two_rounds):
    first, second = snapshot(two_rounds.runs)["sites"]
    assert (first["state"], first["since"], first["cases"]) == ("connected", None, 5)
    assert (second["state"], second["reason"]) == ("absent", "too late")


def test_no_time_left_is_claimed_before_two_rounds(run):
    run.progress("train", 1, 4)
    run.commit(1, {"centre-a": entry()}, 10.0)
    assert snapshot(run.runs)["left_s"] is None
    run.commit(2, {"centre-a": entry()}, 20.0)
    assert snapshot(run.runs)["left_s"] == pytest.approx(2 * 15.0)


def test_time_left_goes_by_the_last_five_rounds(tmp_path):
    run = RunFolder(tmp_path).start(rounds=8)
    run.progress("train", 6, 8)
    for number, seconds in enumerate((1000.0, 10.0, 20.0, 30.0, 40.0, 50.0), start=1):
        run.commit(number, {"centre-a": entry()}, seconds)
    assert snapshot(tmp_path)["left_s"] == pytest.approx(2 * 30.0)


def test_of_two_tasks_each_has_its_time_and_the_whole_has_none_until_both_have_a_pace(tmp_path):
    run = RunFolder(tmp_path).start(rounds=3, tasks=(TASK, "breast-segmentation"))
    run.progress("train", 2, 3)
    for number in (1, 2):
        run.commit(number, {"centre-a": entry()})
    found = snapshot(tmp_path)
    assert [item["task"] for item in found["tasks"]] == [TASK, "breast-segmentation"]
    assert [item["left_s"] for item in found["tasks"]] == [pytest.approx(10.0), None]
    assert found["left_s"] is None


@pytest.mark.parametrize(
    ("missing", "outcome"), [([], "complete"), (["b missed round 1", "c missed round 2"], "partial")]
)
def test_a_finished_run_is_what_its_results_say(run, missing, outcome):
    run.write("results.json", {"provenance": {"outcome": outcome, "missing": missing}})
    run.progress("report", 0, 1)
    assert snapshot(run.runs)["outcome"] is None  # not before it has ended
    run.progress("done", 1, 1)
    found = snapshot(run.runs)
    assert (found["state"], found["outcome"], found["left_s"]) == ("finished", outcome, None)
    assert found["text"] == "; ".join(missing)


def test_a_failed_run_says_why(run):
    run.progress("failed", text="1 of 2 sites can take part")
    found = snapshot(run.runs)
    assert (found["state"], found["text"]) == ("failed", "1 of 2 sites can take part")


def test_before_any_run_it_waits(tmp_path):
    found = snapshot(tmp_path / "absent")
    assert (found["run"], found["state"], found["sites"], found["tasks"]) == (None, "waiting", [], [])
    assert snapshot(tmp_path, "later")["run"] == "later"


def test_a_run_is_found_by_its_name_and_else_the_last_one_started(two_rounds):
    RunFolder(two_rounds.runs, "second").start()
    assert snapshot(two_rounds.runs)["run"] == "second"
    assert snapshot(two_rounds.runs, "first")["tasks"][0]["rounds"]


@pytest.mark.parametrize("name", ["../secret", "/etc", ".hidden", "a/b"])
def test_a_name_cannot_lead_out_of_the_runs(tmp_path, name):
    with pytest.raises(ConfigError, match="folder's name"):
        snapshot(tmp_path, name)


def test_phantoms_are_flagged_by_what_sites_tell_and_a_mixed_run_names_them(run):
    made = {"phantom": {"cases_per_site": 2, "cases_external": 2}}
    assert snapshot(run.runs)["phantom"] is False
    run.start(data=made)
    assert (snapshot(run.runs)["phantom"], snapshot(run.runs)["phantom_sites"]) == (True, [])  # before anybody told
    for told, flag, which in (
        ((True, True), True, []),
        ((False, False), False, []),
        ((False, True), True, ["centre-b"]),
    ):
        run.write("registered.json", {name: {"phantom": item} for name, item in zip(SITES, told, strict=True)})
        found = snapshot(run.runs)
        assert (found["phantom"], found["phantom_sites"]) == (flag, which)
    run.write("registered.json", "[]")
    assert snapshot(run.runs)["phantom"] is True


def test_numbers_that_json_lacks_and_damaged_files_do_no_harm(run):
    run.progress("train", 1, 4)
    run.commit(1, {"centre-a": entry(loss=float("nan"))})
    run.write(f"journal/{TASK}/round-002.json", '{"round": 2, "si')
    run.write("sites.json", "[]")
    run.write("cases.json", "no json")
    run.write("config.toml", "= no toml")
    found = snapshot(run.runs)
    assert [item["round"] for item in found["tasks"][0]["rounds"]] == [1]
    assert found["sites"][0]["loss"] is None
    json.dumps(found, allow_nan=False)


@pytest.fixture
def reads(monkeypatch):
    """Names of the files that were opened to be read."""
    found = []
    plain = Path.read_text

    def read(path, *args, **kwargs):
        found.append(path.name)
        return plain(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", read)
    return found


def test_a_poll_without_a_change_reads_no_file_and_one_round_is_one_file(tmp_path, reads):
    names = tuple(f"centre-{number}" for number in range(10))
    run = RunFolder(tmp_path).start(rounds=300, sites=names)
    run.progress("train", 200, 300)
    for number in range(1, 201):
        run.commit(number, {name: entry(dice=[0.5]) for name in names})
    before = snapshot(tmp_path)
    assert len(before["tasks"][0]["rounds"]) == 200
    reads.clear()
    assert snapshot(tmp_path) is before
    assert reads == []
    run.commit(201, {name: entry(dice=[0.5]) for name in names})
    after = snapshot(tmp_path)
    assert after["tasks"][0]["rounds"][-1]["round"] == 201
    assert [name for name in reads if name.startswith("round-")] == ["round-201.json"]
    reads.clear()
    run.commit(7, {names[0]: entry(loss=9.0)})  # a round that a resumed run does again
    assert snapshot(tmp_path)["tasks"][0]["rounds"][6]["sites"][names[0]]["loss"] == 9.0
    assert [name for name in reads if name.startswith("round-")] == ["round-007.json"]


def test_lists_and_texts_have_an_end(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MOST_CELLS", 20)
    monkeypatch.setattr(reading, "MOST_SITES", 4)
    names = tuple(f"centre-{number}" for number in range(6))
    run = RunFolder(tmp_path).start(sites=names)
    run.progress("train", 9, 9, "x" * 10_000)
    for number in range(1, 10):
        run.commit(number, {name: entry("refused", reason="y" * 10_000) for name in names})
    found = snapshot(tmp_path)
    assert len(found["sites"]) == 4
    assert [item["round"] for item in found["tasks"][0]["rounds"]] == [5, 6, 7, 8, 9]
    assert all(len(item["sites"]) == 4 for item in found["tasks"][0]["rounds"])
    assert len(json.dumps(found)) < 10_000


def test_nothing_but_what_is_listed_leaves_the_folder(two_rounds):
    two_rounds.write(
        "cases.json", {"centre-a": {"included": {"train": 5}, "excluded": {"no_mask": 1}, "note": "SECRET"}}
    )
    two_rounds.write("predictions.json", {"patient": "SECRET"})
    two_rounds.write("sites.json", {"sites": {"centre-a": {"state": "done", "since": 1.0, "path": "SECRET"}}})
    assert "SECRET" not in json.dumps(snapshot(two_rounds.runs))


def test_a_round_was_committed_when_its_model_was_written_however_late_it_is_evaluated(run):
    run.write(f"models/{TASK}/round-001.safetensors", "weights")
    os.utime(run.path / "models" / TASK / "round-001.safetensors", (1000.0, 1000.0))
    run.commit(1, {"centre-a": entry(dice=[0.5])})  # the record, written now with what the sites said
    assert snapshot(run.runs)["left_at"] == 1000.0
