"""What goes wrong between server and sites while a run goes on: scenarios 3 to 18 and 68, in one process."""

import json
import shutil
import time

import numpy as np
import pandas as pd
import pytest
from flwr.app import Array, ArrayRecord, Error, Message, MetricRecord

from client.app import app
from server.federation import site_requests
from server.federation.rounds import Federation
from server.run import run
from server.run_folder.journal import RunFolder
from server.run_folder.results import read_results
from shared.messages.payload import flatten
from shared.runtime.project import load_run_config
from shared.site import open_site
from shared.tasks import task_named
from tests.end_to_end.wire import RUN_CONFIG, Wire, federate, hashes, of, statuses


def test_scenario_3_an_answer_that_arrives_twice_is_counted_once(project):
    root = project()
    reference = hashes(federate(root)[1])
    records = federate(root, "twice", Wire(on_answer=lambda _, answers: answers * 2))[1]
    assert hashes(records) == reference
    assert {entry.attempts for item in records[1:] for entry in item.sites.values()} == {1}


def cut(answer):
    """The same answer, its array's last bytes lost on the way."""
    array = answer.content["weights"]["flat"]
    short = Array(dtype=array.dtype, shape=array.shape, stype=array.stype, data=array.data[:-7])
    answer.content["weights"] = ArrayRecord({"flat": short})
    return [answer]


@pytest.mark.parametrize("times", [1, 9])
def test_scenario_5_a_truncated_reply_is_rejected_whole(project, times):
    root = project(federation={"rounds": 1})
    reference = hashes(federate(root)[1])
    spoiled = []

    def on_answer(message, answers):
        if not of(message, "train", 1) or len(spoiled) >= times:
            return answers
        spoiled.append(message)
        return cut(answers[0])

    _, records = federate(root, "cut", Wire(on_answer=on_answer))
    entry = records[-1].sites["centre-b"]
    assert entry.attempts == 2
    if times == 1:  # asked once more, the site answers whole: nothing is lost
        assert (entry.status, hashes(records)) == ("accepted", reference)
        return
    assert entry.status == "refused"
    assert len(spoiled) == 2

    # What did arrive has no part in the model: it is the two others' alone.
    def client(message, context):
        died = Message(Error(code=8, reason="died"), reply_to=message)
        return died if of(message, "train", 1) else app(message, context)

    assert hashes(federate(root, "alone", Wire(client))[1]) == hashes(records) != reference


@pytest.mark.parametrize("fault", [KeyError("absent child"), MemoryError(), ValueError("JANE DOE")], ids=repr)
def test_scenario_5_a_reply_that_flower_cannot_put_together_costs_its_own_site_alone(project, caplog, fault):
    root = project(federation={"rounds": 1})

    def on_answer(message, answers):
        if of(message, "train", 1):
            raise fault
        return answers

    _, records = federate(root, "broken", Wire(on_answer=on_answer))
    entry = records[-1].sites["centre-b"]
    assert (entry.status, entry.attempts) == ("refused", 2)
    assert statuses(records, "centre-a") == ["accepted"]
    assert "DOE" not in caplog.text + entry.reason


def test_scenarios_7_and_18_a_late_reply_is_dropped_and_the_site_is_back_in_the_next_round(project):
    root = project(federation={"rounds": 3, "round_timeout_s": 2, "min_sites": 2})
    held = []

    def silent(message, answers):
        if of(message, "train", 2):
            held.extend(answers)
            return []
        return answers

    def late(message, answers):
        if message.metadata.message_type == "train" and message.content["header"]["round"] == 3 and held:
            return [held.pop(), *answers]
        return silent(message, answers)

    _, records = federate(root, grid=Wire(on_answer=silent))
    assert statuses(records) == ["accepted", "absent", "accepted"]
    assert records[2].sites["centre-b"].reason == "no answer before the deadline"
    assert statuses(records, "centre-a") == ["accepted"] * 3
    held.clear()
    _, again = federate(root, "late", Wire(on_answer=late))
    assert not held
    assert hashes(again) == hashes(records)


def test_scenario_18_an_answer_to_an_old_round_is_no_answer_to_this_one(project):
    root = project()
    reference = hashes(federate(root)[1])
    kept = []

    def on_answer(message, answers):
        if of(message, "train", 1):
            kept.append(answers[0].content)
        elif of(message, "train", 2) and kept:
            return [Message(kept.pop(), reply_to=message)]
        return answers

    _, records = federate(root, "stale", Wire(on_answer=on_answer))
    assert not kept
    assert records[-1].sites["centre-b"].attempts == 2
    assert hashes(records) == reference


def test_scenario_12_a_process_that_died_is_asked_once_more(project):
    root = project()
    reference = hashes(federate(root)[1])
    deaths = []

    def client(message, context):
        if of(message, "train", 2) and not deaths:
            deaths.append(1)
            return Message(Error(code=8, reason="JANE DOE"), reply_to=message)
        return app(message, context)

    _, records = federate(root, "died", Wire(client))
    assert records[-1].sites["centre-b"].attempts == 2
    assert hashes(records) == reference


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_a_site_that_keeps_failing_is_asked_so_often_and_no_more(project, retries):
    root = project(federation={"rounds": 1, "retries": retries})
    asked = []

    def client(message, context):
        if of(message, "train", 1):
            asked.append(1)
            return Message(Error(code=8, reason="died"), reply_to=message)
        return app(message, context)

    entry = federate(root, grid=Wire(client))[1][-1].sites["centre-b"]
    assert (entry.status, entry.attempts, len(asked)) == ("failed", retries + 1, retries + 1)
    assert "Flower error 8" in entry.reason


def test_scenario_12_a_node_that_left_is_not_waited_for_and_takes_part_when_it_is_back(project, monkeypatch):
    monkeypatch.setattr(site_requests, "LOOK_S", 0.2)
    root = project(federation={"rounds": 4})

    def client(message, context):
        if of(message, "train", 2, "centre-a"):
            grid.online -= {2}  # centre-b has its message, and dies with it
        if of(message, "train", 3, "centre-a"):
            grid.online |= {2}
        return app(message, context)

    grid = Wire(client)
    started = time.monotonic()
    _, records = federate(root, grid=grid)
    assert time.monotonic() - started < 30  # the deadline is 60 s
    assert statuses(records) == ["accepted", "absent", "absent", "accepted"]
    assert {item.sites["centre-b"].reason for item in records[2:4]} == {site_requests.GONE}


def test_a_site_that_comes_late_joins_and_one_that_returns_under_another_number_is_found(project):
    root = project(federation={"rounds": 4, "join_timeout_s": 1})
    seen = []

    def client(message, context):
        if of(message, "train", 1, "centre-b"):
            grid.online |= {1}
        if of(message, "train", 3, "centre-a"):
            grid.renew(2, 22)
        if message.metadata.message_type == "train":
            seen.append((message.content["header"]["round"], context.node_id))
        return app(message, context)

    grid = Wire(client)
    grid.online = {2, 3}
    federation, records = federate(root, grid=grid)
    assert statuses(records, "centre-a") == ["absent", "accepted", "accepted", "accepted"]
    assert records[1].sites["centre-a"].reason == "never connected"
    assert statuses(records, "centre-b") == ["accepted", "accepted", "absent", "accepted"]
    assert [node for number, node in seen if number == 4] == [1, 22, 3]
    assert not federation.lost


def test_a_site_that_hangs_while_it_joins_holds_the_others_up_no_longer_than_agreed(project):
    root = project(federation={"rounds": 1, "join_timeout_s": 0.5})
    started = {}

    def on_answer(message, answers):
        started.setdefault(message.metadata.message_type, time.monotonic())
        return [] if message.metadata.dst_node_id == 1 else answers

    grid = Wire(on_answer=on_answer)
    _, records = federate(root, grid=grid)
    assert started["train"] - started["query.register"] < 20
    assert statuses(records, "centre-a") == ["absent"]


def test_scenario_68_a_site_of_another_version_is_refused_on_joining_with_the_remedy(project):
    root = project(federation={"rounds": 1, "join_timeout_s": 5})

    def on_answer(message, answers):
        if message.metadata.message_type == "query.register" and message.metadata.dst_node_id == 2:
            numbers = answers[0].content["numbers"]
            answers[0].content["numbers"] = MetricRecord({**numbers, "versions.torch": [2, 12, 0]})
        return answers

    started = time.monotonic()
    federation, records = federate(root, grid=Wire(on_answer=on_answer))
    assert time.monotonic() - started < 5  # it is known at once that nobody else will come
    entry = records[-1].sites["centre-b"]
    assert entry.status == "refused"
    assert entry.reason.startswith("runs torch 2.12.0, the server 2.")
    assert entry.reason.endswith("install the versions of constraints.txt")
    assert json.loads((federation.folder.path / "sites.json").read_text())["sites"]["centre-b"]["state"] == "absent"


@pytest.fixture
def own_cache(tmp_path, toy_cache, project, monkeypatch):
    """A cache of the test's own, to be damaged."""
    root = project()
    federate(root, "filling")
    shutil.copytree(toy_cache, tmp_path / "cache")
    # The list of prepared cases names their folders.
    for path in (tmp_path / "cache" / "sites").glob("*.json"):
        path.write_text(path.read_text().replace(str(toy_cache), str(tmp_path / "cache")))
    monkeypatch.setenv("FEDBREAST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("damage", ["truncated", "empty", "lost"])
def test_a_damaged_case_is_skipped_and_the_rest_counts_for_what_it_is(project, own_cache, damage):
    root = project()
    answers = {}
    damaged = []

    def client(message, context):
        if of(message, "train", 2, "centre-a"):
            config = load_run_config(RUN_CONFIG)
            site = open_site(root / config.data.root / "centre-a", "centre-a", config)
            for split, name in (("train", "image"), ("validation", "native_mask")):
                case = site.prepared("mri", RunFolder(root / "runs" / "one").plans()["mri"])[split][0]
                assert own_cache in case.folder.parents
                path = case.folder / f"{name}.npy"
                content = path.read_bytes()
                path.unlink()
                if damage != "lost":
                    path.write_bytes(b"" if damage == "empty" else content[: len(content) // 2])
                damaged.append(case.key)
        reply = app(message, context)
        if message.metadata.message_type == "train" and message.content["header"]["round"] == 2:
            numbers = reply.content["numbers"]
            answers[message.content["header"]["site"]] = (
                reply.content["weights"]["flat"].numpy().astype(np.float64),
                numbers["cases"],
            )
        return reply

    federation, records = federate(root, grid=Wire(client))
    before, entry = records[1].sites["centre-a"], records[2].sites["centre-a"]
    assert (before.skipped, entry.status, entry.skipped) == (0, "accepted", 1)
    assert entry.cases == before.cases - 1 == answers["centre-a"][1]
    for item in records[1:]:  # the first round's model was evaluated in the second
        evaluated = item.evaluated["centre-a"]
        assert (evaluated.status, evaluated.cases, evaluated.skipped) == ("accepted", 0, 1)
    mean = sum(weights * cases for weights, cases in answers.values()) / sum(cases for _, cases in answers.values())
    assert np.abs(flatten(federation.folder.model(records[2])) - mean).max() < 1e-6
    parts = federation.participation.missing()
    assert parts == ("centre-a skipped 1 case validating rounds 1, 2", "centre-a skipped 1 case in round 2")
    # The site's own log names the case; nothing of the server does.
    own = "".join(path.read_text() for path in (own_cache / "logs").rglob("*") if path.is_file())
    assert all(key in own for key in damaged)
    written = b"".join(path.read_bytes() for path in federation.folder.path.rglob("*") if path.is_file())
    assert not any(key.encode() in written for key in damaged)


def test_a_run_without_a_site_ends_partial_and_says_so_everywhere(project):
    root = project(federation={"round_timeout_s": 20})
    config = load_run_config(RUN_CONFIG)
    folder = RunFolder.create(root / "runs" / "part", config)
    states = []

    def client(message, context):
        if message.metadata.message_type == "train":
            states.append(json.loads((folder.path / "sites.json").read_text())["sites"]["centre-b"])
        if of(message, "train", 1) or of(message, "evaluate", 2):
            return Message(Error(code=8, reason="died"), reply_to=message)
        return app(message, context)

    rows = run(Wire(client), config, folder, lambda *_: None)
    folder.release()
    made = read_results(folder.path).provenance
    assert made.outcome == "partial"
    assert made.missing[0] == "centre-b failed in round 1 (the site's process failed (Flower error 8))"
    assert made.missing[1].startswith("centre-b did not validate round 2 (")
    assert made.missing[0].replace("'", "&#39;") in (folder.path / "report.html").read_text()

    table = pd.read_csv(folder.path / "participation.csv", keep_default_na=False)
    assert list(table.columns) == [
        "task", "round", "model_hash", "site", "role", "status", "reason", "cases", "skipped", "attempts", "seconds",
    ]  # fmt: skip
    training = table[table["role"] == "train"].set_index(["round", "site"])
    assert training.loc[(1, "centre-b"), "status"] == "failed"
    assert training.loc[(1, "centre-b"), "attempts"] == 2
    assert training.loc[(2, "centre-b"), "cases"] == 3
    # Each number of the results has its cases here.
    behind = table.set_index(["model_hash", "role", "site"])["cases"]
    for row in rows:
        if row.metric == "dice" and row.centre.startswith("centre"):
            assert behind.loc[(row.model_hash, row.role, row.centre)] == row.n
    ends = json.loads((folder.path / "sites.json").read_text())["sites"]
    assert {name: item["state"] for name, item in ends.items()} == dict.fromkeys(config.data.sites, "done")
    assert states[0]["state"] == "training"
    assert states[0]["since"] <= states[-1]["since"]


def test_scenario_11_rounds_strictly_rise_over_a_kill_and_the_ledger_has_them_all(project):
    root = project(federation={"rounds": 3})

    class Killed(BaseException):
        pass

    rounds = []

    def client(message, context):
        number = message.content["header"]["round"]
        if message.metadata.message_type == "train":
            rounds.append(number)
            if rounds.count(2) == 2 and len(rounds) == 5:
                raise Killed
        return app(message, context)

    with pytest.raises(Killed):
        federate(root, grid=Wire(client))
    cut_at = len(rounds)
    _, records = federate(root, grid=Wire(client), resume=True)
    assert [item.round for item in records] == [0, 1, 2, 3]
    # A committed round is never asked for again.
    assert rounds[cut_at:] == [2] * 3 + [3] * 3
    table = pd.read_csv(root / "runs" / "one" / "participation.csv")
    training = table[table["role"] == "train"]
    assert list(training["round"]) == [1] * 3 + [2] * 3 + [3] * 3


def test_a_classifier_skips_a_damaged_case_and_weighs_each_label_by_the_cases_used(project, own_cache):
    tiny = {
        "rounds": 2,
        "patch": {"voxels": [16, 16, 16]},
        "training": {"batch_size": 2, "steps_per_round": 1, "learning_rate": 1e-2},
        "mirrored_copies": 1,
    }
    root = project(tasks=["receptor-ki67-multitask"], receptor_ki67_multitask=tiny)
    told = {}

    def client(message, context):
        if of(message, "train", 2, "centre-a"):
            config = load_run_config(RUN_CONFIG)
            site = open_site(root / config.data.root / "centre-a", "centre-a", config)
            case = site.prepared("mri", RunFolder(root / "runs" / "one").plans()["mri"])["train"][0]
            assert own_cache in case.region_folder.parents
            (case.region_folder / "phases.npy").write_bytes(b"")
            told["labels"] = case.labels
        reply = app(message, context)
        if of(message, "train", 2, "centre-a"):
            told["numbers"] = dict(reply.content["numbers"])
        return reply

    config = load_run_config(RUN_CONFIG)
    folder = RunFolder.create(root / "runs" / "one", config)
    federation = Federation(Wire(client), config, folder, lambda *_: None)
    federation.register()
    entry = federation.train(task_named("receptor-ki67-multitask"))[2].sites["centre-a"]
    folder.release()
    assert (entry.status, entry.cases, entry.skipped) == ("accepted", 2, 1)
    registered = next(site for site in federation.participants.sites if site.name == "centre-a").labelled
    key = "receptor-ki67-multitask/ki67_percent"
    has = told["labels"].ki67_percent is not None
    assert told["numbers"][f"labelled.{key}"] == registered[key] - has
