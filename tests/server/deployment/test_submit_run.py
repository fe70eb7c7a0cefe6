"""A run submitted to a consortium: followed, resumed after its server died, stopped. Flower is played here."""

import json
import os
import signal
import socket
import sys
import threading

import pytest

from server.deployment import flower_cli, submit_run
from server.deployment.submit_run import run_on_server
from shared.errors import RunError
from shared.runtime import flower_home
from tests.server.deployment.stand import make_consortium

# Each call notes its settings; the run ends as the next word of the play says.
FLWR = """
import json, os, pathlib, sys, time, tomllib
root = pathlib.Path(os.environ["FEDBREAST_ROOT"])
log, play = root / "calls.jsonl", root / "play.json"
settings = {}
if sys.argv[1] == "run":
    settings = tomllib.loads(pathlib.Path(sys.argv[sys.argv.index("--run-config") + 1]).read_text())
    words = json.loads(play.read_text())
    if words[0] != "not-begun":
        (root / "runs" / "one").mkdir(parents=True, exist_ok=True)
        (root / "runs" / "one" / "config.toml").touch()
    if words[0] == "round":
        journal = root / "runs" / "one" / "journal" / "task"
        journal.mkdir(parents=True, exist_ok=True)
        (journal / f"round-{len(words)}.json").touch()
    if words[0] == "failed":
        progress = {"phase": "failed", "done": 1, "total": 2, "text": "too few sites", "at": time.time() + 1}
        (root / "runs" / "one" / "progress.json").write_text(json.dumps(progress))
with log.open("a") as stream:
    stream.write(json.dumps([sys.argv[1], settings]) + "\\n")
if sys.argv[1] == "run":
    print(json.dumps({"success": True, "run-id": "7"}))
elif sys.argv[1] == "list":
    word, *rest = json.loads(play.read_text())
    if word == "running":
        print(json.dumps({"runs": [{"status": "running"}]}))
    else:
        play.write_text(json.dumps(rest))
        states = {"good": "finished:completed", "failed": "finished:failed"}
        if word in states:
            print(json.dumps({"runs": [{"status": states[word], "status-details": ""}]}))
        else:  # another SuperLink has taken the place of the one that had the run
            print(json.dumps({"success": False, "error-message": "[code: 16] Run ID not found."}))
else:
    print("what the app logged")
"""


AN_APP = '[project]\nname = "toy"\nversion = "1"\n[tool.flwr.app]\n'


@pytest.fixture
def play(tmp_path, monkeypatch):
    consortium = make_consortium(tmp_path)
    binaries, root = tmp_path / "bin", tmp_path / "root"
    binaries.mkdir()
    (binaries / "flwr").write_text(f"#!{sys.executable}\n{FLWR}")
    (binaries / "flwr").chmod(0o755)
    root.mkdir()
    (root / "pyproject.toml").write_text(AN_APP)
    (root / "toy.toml").touch()
    monkeypatch.setenv("FEDBREAST_ROOT", str(root))
    monkeypatch.setattr(flower_home, "BINARIES", binaries)
    monkeypatch.setattr(flower_cli, "_ASK_EVERY_S", (0.1, 0.2))
    monkeypatch.setattr(flower_cli, "_LOOK_EVERY_S", 0.02)

    def run(*words, **options):
        (root / "play.json").write_text(json.dumps(words))
        run_on_server(consortium.kit, root / "toy.toml", run_name="one", overrides={"seed": 3}, **options)

    run.root, run.kit = root, consortium.kit
    with socket.create_server(("127.0.0.1", consortium.kit.server.superlink_port)) as run.superlink:
        yield run


def calls(root, name):
    lines = map(json.loads, (root / "calls.jsonl").read_text().splitlines())
    return [settings for command, settings in lines if command == name]


def test_a_run_is_submitted_with_its_settings_and_followed_to_its_end(play):
    play("good")
    (settings,) = calls(play.root, "run")
    expected = {"run-name": "one", "resume": "", "consortium": True, "most-cases": "", "seed": 3}
    assert settings == {"config": str(play.root / "toy.toml"), **expected}


def test_a_run_whose_server_died_is_resumed_as_it_was_begun(play):
    (play.kit.folder / "most_cases.toml").write_text("[most_cases]\ncentre-a = 400\ncentre-b = 80\n")
    play("lost", "lost", "good")
    first, *more = calls(play.root, "run")
    assert first["seed"] == 3
    assert [(item["resume"], "seed" in item, item["consortium"]) for item in more] == [("one", False, True)] * 2
    assert [item["most-cases"] for item in (first, *more)] == ["centre-a=400,centre-b=80"] * 3


def test_a_run_that_had_not_begun_is_submitted_anew(play):
    play("not-begun", "good")
    assert [item["resume"] for item in calls(play.root, "run")] == ["", ""]


def test_a_run_that_goes_on_a_little_each_time_is_resumed_as_often_as_its_server_dies(play, monkeypatch):
    monkeypatch.setattr(submit_run, "RESUMES", 2)
    play("round", "killed", "round", "killed", "round", "good")
    assert [settings.get("resume", "") for settings in calls(play.root, "run")] == ["", *["one"] * 5]


def test_a_server_that_dies_again_and_again_is_given_up(play, monkeypatch):
    monkeypatch.setattr(submit_run, "RESUMES", 2)
    with pytest.raises(RunError, match="SuperLink ended before the run: resumed 2 times in vain"):
        play("lost", "lost", "lost", "good")
    assert len(calls(play.root, "run")) == 3


def test_a_run_that_failed_by_itself_is_not_resumed_and_its_log_is_kept(play):
    play.kit.state.mkdir(exist_ok=True)
    (play.kit.state / "superlink.log").write_text("what the SuperLink logged\n")
    with pytest.raises(RunError, match=r"^too few sites; more in .*runs/one/flower\.log$"):
        play("failed")
    assert len(calls(play.root, "run")) == 1
    assert (play.root / "runs/one/flower.log").read_text() == (
        "what the app logged\n\n--- SuperLink ---\nwhat the SuperLink logged\n"
    )


def test_ctrl_c_stops_the_run_on_the_server(play):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(3.0, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            play("running")
    finally:
        timer.cancel()
        signal.signal(signal.SIGINT, before)
    assert len(calls(play.root, "stop")) == 1


def test_without_a_server_it_is_said_how_to_start_one(play):
    play.superlink.close()
    with pytest.raises(RunError, match=r"no server runs with .*server on this machine: start `fedbreast serve "):
        play("good")
    assert not (play.root / "calls.jsonl").exists()
