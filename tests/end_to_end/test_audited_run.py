"""What the audit log tells of a run, from the server app's own entry to its end, however it ends."""

import json
from types import SimpleNamespace

import pytest
from flwr.app import Error, Message

from client.app import app
from server.app import main
from server.run_folder.journal import RunFolder
from server.studies.in_process_grid import InProcessGrid
from shared.errors import RunError
from shared.runtime.audit_log import AUDIT, verify

TASK = "lesion-segmentation"
SETTINGS = {"config": "toy.toml", "seed": -1, "rounds": -1, "run-name": "one", "resume": "", "consortium": True}
SITES = ("centre-a", "centre-b")


@pytest.fixture
def run(project, phantom_root, tmp_path, monkeypatch):
    """Run the server's app; returns what it raised."""
    monkeypatch.setenv(AUDIT, str(tmp_path / "audit.jsonl"))
    data = {"root": str(phantom_root), "sites": list(SITES), "external": "centre-d"}

    def started(client=app, **federation):
        project(data=data, federation={"rounds": 1, "round_timeout_s": 20} | federation)
        try:
            main(InProcessGrid(client, SETTINGS, len(SITES)), SimpleNamespace(run_config=SETTINGS))
        except Exception as error:  # noqa: BLE001 - any, it is looked at
            return error

    return started


def told(folder, *events):
    """Lines of the audit log that tell of these events, in order."""
    assert verify(folder / "audit.jsonl").broken_at is None
    lines = [json.loads(line) for line in (folder / "audit.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] in events]


def test_a_run_that_completes_tells_its_start_each_round_who_answered_and_its_end(run, tmp_path):
    assert run(rounds=2) is None
    lines = told(tmp_path, "run-started", "round-committed", "run-finished")
    assert [line["event"] for line in lines] == ["run-started", "round-committed", "round-committed", "run-finished"]
    assert {line["run"] for line in lines} == {"one"}
    assert (lines[0]["resumed"], lines[0]["seed"], lines[-1]["outcome"]) == (False, 0, "complete")
    records = RunFolder(tmp_path / "runs" / "one").records(TASK)[1:]
    assert [line["model"] for line in lines[1:3]] == [record.model_hash for record in records]
    assert [line["accepted"] for line in lines[1:3]] == ["centre-a, centre-b"] * 2
    trained = [(line["site"], line["round"], line["cases"]) for line in told(tmp_path, "answered") if line["weights"]]
    cases = [(site, item.round, item.sites[site].cases) for item in records for site in SITES]
    assert sorted(trained) == sorted(cases)


def test_a_run_without_enough_sites_tells_why_it_failed(run, tmp_path):
    def client(message, context):
        if message.metadata.message_type == "train" and context.node_config["partition-id"] == 1:
            return Message(Error(code=8, reason="out"), reply_to=message)
        return app(message, context)

    raised = run(client, min_sites=2)
    assert isinstance(raised, RunError)
    (line,) = told(tmp_path, "run-failed", "run-finished", "round-committed")
    assert (line["event"], line["run"], line["why"]) == ("run-failed", "one", str(raised))


def test_a_fault_nobody_foresaw_is_told_by_its_kind_without_what_it_quotes(run, tmp_path, monkeypatch):
    def broken(_):
        raise ValueError("Jane Doe")

    monkeypatch.setattr("server.run.build_report", broken)
    assert isinstance(run(), ValueError)
    (line,) = told(tmp_path, "run-failed", "run-finished")
    assert (line["event"], line["why"]) == ("run-failed", "ValueError; see log.jsonl in the run's folder")
    assert "Doe" not in (tmp_path / "audit.jsonl").read_text()


def test_an_audit_log_that_takes_no_more_does_not_hide_what_ended_the_run(run, tmp_path, monkeypatch):
    def broken(_):
        (tmp_path / "audit.jsonl").unlink()
        (tmp_path / "audit.jsonl").mkdir()
        raise ValueError("the first fault")

    monkeypatch.setattr("server.run.build_report", broken)
    assert str(run()) == "the first fault"
    assert "that could not be recorded" in (tmp_path / "runs" / "one" / "log.jsonl").read_text()
