"""What MLflow cannot do to a run: end it, change it, hold it up, or put words into its log."""

import json
import logging
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from shared.runtime.logs import log_to
from tests.end_to_end.tiny_sites import TASK
from tests.end_to_end.tracked_runs import (
    Stored,
    empty_project,
    hashes,
    in_round,
    journal_history,
    needs_mlflow,
    tiny_run,
)

pytestmark = needs_mlflow
FOREIGN = "JANE DOE"


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    return empty_project(tmp_path, monkeypatch)


class Babbling(BaseHTTPRequestHandler):
    """A server that fails at everything, in its own words."""

    def do_GET(self):
        text = FOREIGN.encode()
        self.send_response(500, FOREIGN)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_POST(self):
        self.do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def nobody(root):
    """A port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    return f"http://127.0.0.1:{port}"


@pytest.fixture
def silent(root, monkeypatch):
    """A server that takes a request and never answers; the user waits for less than we would."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def babbling(root):
    with HTTPServer(("127.0.0.1", 0), Babbling) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def damaged(root):
    (root / "runs").mkdir()
    (root / "runs" / "mlflow.db").write_bytes(FOREIGN.encode() * 999)
    return ""


@pytest.fixture
def not_to_be_opened(root):
    (root / "runs" / "mlflow.db").mkdir(parents=True)
    return ""


def warned(path):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line["message"] for line in lines if line["level"] != "info"]


@pytest.mark.parametrize("place", ["nobody", "silent", "babbling", "damaged", "not_to_be_opened"])
def test_a_run_whose_mlflow_fails_is_the_same_run_with_one_warning(root, place, request, caplog, capfd):
    uri = request.getfixturevalue(place)
    reference = tiny_run(root, "untracked")
    started = time.monotonic()
    with log_to(root / "log.jsonl"):
        folder = tiny_run(root, mlflow=True, uri=uri)
    # MLflow's own patience is minutes: seven tries of two minutes over the network, 100 s with a file.
    assert time.monotonic() - started < 10
    assert hashes(folder) == hashes(reference)
    assert (folder.path / "report.html").is_file()

    (warning,) = warned(root / "log.jsonl")
    assert warning.startswith("MLflow failed (")
    assert warning.endswith(") and is told no more; the run goes on, and resuming it makes up for what is missing")
    (record,) = [item for item in caplog.records if item.levelno >= logging.WARNING]
    assert record.getMessage() == warning
    printed = "".join(capfd.readouterr())
    assert FOREIGN not in printed + warning
    assert "Traceback" not in printed


def test_what_mlflow_missed_is_made_up_for_when_the_finished_run_is_resumed(root, damaged):
    folder = tiny_run(root, mlflow=True, uri=damaged)
    assert not (folder.path / "mlflow.json").exists()
    (root / "runs" / "mlflow.db").unlink()

    def asked(*_):
        pytest.fail("a finished run asks no site")

    tiny_run(root, client=asked, resume=True)
    stored = Stored(root, folder)
    assert stored.status == "FINISHED"
    assert stored.metrics == journal_history(folder)
    assert (stored.artifacts / "results.csv").read_bytes() == (folder.path / "results.csv").read_bytes()


def test_an_mlflow_that_fails_in_the_middle_is_told_the_rest_when_it_is_back(root, caplog, capfd):
    store = root / "runs" / "mlflow.db"
    moved = store.with_suffix(".away")

    def lose():
        if not moved.exists():
            store.rename(moved)
            store.mkdir()

    folder = tiny_run(root, client=in_round(3, lose), mlflow=True)
    assert len([item for item in caplog.records if item.message.startswith("MLflow failed")]) == 1
    # There MLflow quotes the statement and its values.
    assert "".join(capfd.readouterr()) == ""
    assert hashes(folder) == hashes(tiny_run(root, "untracked"))
    store.rmdir()
    moved.rename(store)
    before = Stored(root, folder)
    assert (before.status, [step for step, _ in before.metrics[f"{TASK}/seconds"]]) == ("RUNNING", [1])
    tiny_run(root, resume=True)
    after = Stored(root, folder)
    assert (after.name, after.status, len(after.runs)) == (before.name, "FINISHED", 1)
    assert after.metrics == journal_history(folder)


def test_mlflow_sends_nobody_a_word_of_its_own(root, monkeypatch):
    import requests
    from mlflow.telemetry import get_telemetry_client, set_telemetry_client

    # Where tests run MLflow keeps still by itself.
    monkeypatch.setattr("mlflow.telemetry.utils._IS_IN_CI_ENV_OR_TESTING", False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(root / "settings"))
    calls = []
    monkeypatch.setattr(requests, "get", calls.append)
    monkeypatch.setattr(requests, "post", calls.append)
    set_telemetry_client()  # as MONAI's import of MLflow does, before there is a run
    assert get_telemetry_client() is not None
    tiny_run(root, mlflow=True)
    assert get_telemetry_client() is None
    assert not calls
