"""The warm process: each call is answered from a fork of it, and whoever calls is told whether it was taken."""

import io
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from client.node import warm_process
from client.node.warm_process import COMMAND, LIBRARIES, hand_over, install_whole
from shared.runtime.app_bundle import STAGE, stage_app
from shared.runtime.children import ISOLATED, free_ports

WARM = Path(__file__).resolve().parents[3] / "client" / "node" / "warm_process.py"

# The warm process with a library that loads at once, and Flower's command played: it writes who it was.
PLAYED = """
import importlib.util, json, os, sys, types
from pathlib import Path
spec = importlib.util.spec_from_file_location("warm_process", {warm!r})
warm_process = importlib.util.module_from_spec(spec)
spec.loader.exec_module(warm_process)
warm_process.LIBRARIES = ("json",)
def command():
    told = sys.argv[1:]
    if told[:1] == ["fail"]:
        raise RuntimeError("the app failed")
    if told[:1] == ["exit"]:
        sys.exit(3)
    draft = Path(told[0] + ".draft")
    looks = fetching.pull_and_inflate_object_from_tree("tree")
    draft.write_text(json.dumps([sys.argv, os.getpid(), os.getppid(), looks]))
    draft.rename(told[0])
played = types.ModuleType("flwr.supernode.cli.flwr_clientapp")
played.flwr_clientapp = command
sys.modules["flwr.supernode.cli.flwr_clientapp"] = played
fetching = types.ModuleType("flwr.supernode.runtime.run_clientapp")
fetching.pull_and_inflate_object_from_tree = lambda tree, **pauses: pauses
fetching.install_from_fab = None
sys.modules["flwr.supernode.runtime.run_clientapp"] = fetching
warm_process.keep_warm(Path(sys.argv[1]))
"""

STARTER = """
import subprocess, sys
print(subprocess.Popen([sys.executable, "-P", "-c", *sys.argv[1:]]).pid, flush=True)
input()
"""


def until(met, wait_s=10.0):
    deadline = time.monotonic() + wait_s
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def short():
    """A Unix socket's path must be short."""
    with tempfile.TemporaryDirectory(prefix="fb-") as folder:
        yield Path(folder)


@contextmanager
def warmed(door):
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", PLAYED.format(warm=str(WARM)), str(door)], stdin=subprocess.DEVNULL
    )
    try:
        until(door.exists)
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_call_is_answered_from_a_fork_with_the_same_arguments(short, tmp_path):
    with warmed(short / "door") as process:
        for number in range(2):
            answer = tmp_path / f"answer-{number}"
            assert hand_over(short / "door", [str(answer), "--token", "a b", '"'])
            until(answer.exists)
            arguments, own, parent, looks = json.loads(answer.read_text())
            assert arguments == [COMMAND, str(answer), "--token", "a b", '"']
            assert parent == process.pid != own
            # Flower's pauses between looks for what the node is still fetching would double up to ten seconds.
            assert looks == {"initial_backoff": 0.5, "backoff_cap": 0.5, "max_tries_per_object": None}


def test_where_nobody_answers_the_caller_is_told(short):
    assert not hand_over(short / "door", ["--token", "x"])
    with warmed(short / "door"):
        pass
    assert (short / "door").exists()  # left behind by the killed one
    assert not hand_over(short / "door", ["--token", "y"])


def test_who_gave_up_waiting_is_not_answered_after_all(short, tmp_path, monkeypatch):
    # It has started another process by then: two with one token would be one too many.
    with warmed(short / "door") as process:
        process.send_signal(signal.SIGSTOP)
        monkeypatch.setattr(warm_process, "_PATIENCE_S", 0.2)
        assert not hand_over(short / "door", [str(tmp_path / "late")])
        process.send_signal(signal.SIGCONT)
        monkeypatch.undo()
        assert hand_over(short / "door", [str(tmp_path / "answer")])
        until((tmp_path / "answer").exists)
        time.sleep(0.5)
    assert not (tmp_path / "late").exists()


def test_an_app_that_fails_says_why_and_takes_nobody_else_along(short, tmp_path, capfd):
    with warmed(short / "door") as process:
        for how in ("fail", "exit"):
            assert hand_over(short / "door", [how])
        assert hand_over(short / "door", [str(tmp_path / "answer")])
        until((tmp_path / "answer").exists)
        assert process.poll() is None
        written = []

        def complains():
            written.append(capfd.readouterr().err)
            return "RuntimeError: the app failed" in "".join(written)

        until(complains)  # each fork writes when it comes to it
    assert "".join(written).count("RuntimeError: the app failed") == 1


def test_a_caller_that_says_nothing_holds_nobody_up(short, tmp_path):
    with warmed(short / "door"), socket.socket(socket.AF_UNIX) as silent:
        until(lambda: silent.connect_ex(str(short / "door")) == 0)  # the door is there a moment before it is open
        assert hand_over(short / "door", [str(tmp_path / "answer")])
        until((tmp_path / "answer").exists)
        silent.settimeout(5)
        with suppress(ConnectionError):
            assert silent.recv(1) == b""  # it is sent away, and nothing ran for it


def test_calls_at_the_same_time_are_all_answered(short, tmp_path):
    with warmed(short / "door"), ThreadPoolExecutor(8) as pool:
        answers = [str(tmp_path / f"answer-{number}") for number in range(8)]
        assert all(pool.map(lambda answer: hand_over(short / "door", [answer]), answers))
        until(lambda: len(list(tmp_path.glob("answer-?"))) == 8)


def test_only_its_owner_may_knock(short):
    with warmed(short / "door"):
        until(lambda: stat.S_IMODE((short / "door").stat().st_mode) == 0o600)


def test_it_ends_with_the_process_that_started_it(short):
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, PLAYED.format(warm=str(WARM)), str(short / "door")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    warm = int(starter.stdout.readline())
    until((short / "door").exists)
    starter.kill()
    starter.communicate()

    def ended():
        try:
            os.kill(warm, 0)
        except ProcessLookupError:
            return True
        return Path(f"/proc/{warm}/stat").read_text().rpartition(")")[2].split()[0] == "Z"

    try:
        until(ended)
    finally:
        if not ended():
            os.kill(warm, signal.SIGKILL)


def test_it_does_not_start_with_code_of_the_app_loaded(short):
    given = "import sys; from pathlib import Path; import client.node.warm_process as w; w.LIBRARIES = ('json',); "
    done = subprocess.run(
        [sys.executable, "-c", given + "w.keep_warm(Path(sys.argv[1]))", str(short / "door")],
        capture_output=True, text=True, check=False, cwd=WARM.parents[2], timeout=30,
    )  # fmt: skip
    assert done.returncode == 1
    assert "code of the app is loaded already: client" in done.stderr
    assert not (short / "door").exists()


@pytest.mark.slow
def test_the_libraries_themselves_load_no_code_of_the_app(short):
    # As a node starts it: `-I` keeps its folder off the path.
    process = subprocess.Popen([*ISOLATED, WARM, str(short / "door")], cwd=WARM.parents[2])
    try:
        until(lambda: (short / "door").exists() or process.poll() is not None, 80)
        assert process.poll() is None
        loaded = Path(f"/proc/{process.pid}/maps").read_text()
        assert "torch" in loaded
        assert "torch" in LIBRARIES
    finally:
        process.kill()
        process.wait()


def test_of_a_fork_nothing_is_left_to_load_but_the_app_itself():
    script = """
import importlib, sys
from client.node.warm_process import LIBRARIES
for name in LIBRARIES:
    importlib.import_module(name)
before = set(sys.modules)
import client.app, client.local_round
from shared.tasks import task_named
task_named("lesion-segmentation")
print(*{name.split(".")[0] for name in set(sys.modules) - before})
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True, cwd=WARM.parents[2]
    )
    assert set(done.stdout.split()) - sys.stdlib_module_names <= {"client", "shared", "pydantic"}


# Flower's own use of a library.
@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")
@pytest.mark.parametrize("how", ["half", "changed", "more", "library", "extension", "bytecode"])
def test_an_app_is_unpacked_whole_and_nothing_else_lies_in_its_folder(tmp_path, monkeypatch, how):
    from flwr.cli.build import build_fab_from_disk
    from flwr.cli.install import install_from_fab

    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "home"))
    bundle = build_fab_from_disk(stage_app(WARM.parents[2], tmp_path / STAGE))
    folder = install_whole(install_from_fab, bundle, skip_prompt=True)
    app = folder / "client" / "app.py"
    assert app.read_bytes() == (WARM.parents[1] / "app.py").read_bytes()
    first, inode = content(folder), app.stat().st_ino
    assert install_whole(pytest.fail, bundle) == folder  # what is whole is not unpacked again
    assert app.stat().st_ino == inode

    if how == "half":
        app.unlink()
    elif how == "changed":
        app.write_text("x = 1\n")
    else:
        places = {"more": "client/more.py", "library": "filelock.py", "extension": "client/app.abi3.so"}
        (folder / places.get(how, "client/app.pyc")).write_bytes(b"")
    assert install_from_fab(bundle, skip_prompt=True) == folder  # Flower by itself takes it as it is
    assert content(folder) != first
    assert install_whole(install_from_fab, bundle, skip_prompt=True) == folder
    assert content(folder) == first


def test_a_folder_that_never_holds_what_its_bundle_does_is_not_imported_from(tmp_path, monkeypatch):
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "home"))

    def install(*_, **__):
        (tmp_path / "app").mkdir(exist_ok=True)
        (tmp_path / "app" / "app.py").write_text("another\n")
        return tmp_path / "app"

    bundle = io.BytesIO()
    with zipfile.ZipFile(bundle, "w") as archive:
        archive.writestr("app.py", "x = 1\n")
    with pytest.raises(RuntimeError, match="does not hold what its bundle does"):
        install_whole(install, bundle.getvalue())


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_arguments_on_the_command_line_are_done_at_once_for_one_message(tmp_path):
    """Without a warm process: here Flower's command says that nobody answers where it should fetch its message."""
    (tmp_path / "token").write_text("x")
    (told,) = free_ports(1)
    address = ["--runtime-api-address", f"127.0.0.1:{told}", "--insecure", "--parent-pid", "1"]
    (tmp_path / "sitecustomize.py").write_text("print('not isolated')")
    done = subprocess.Popen(
        [*ISOLATED, WARM, *address, "--token-file", str(tmp_path / "token")],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        said = done.stdout.readline()
        assert b"Start `flwr-clientapp` process" in said
    finally:
        done.kill()
        done.communicate()


def test_flowers_app_process_unpacks_whole_and_asks_often():
    given = "import runpy, sys; w = runpy.run_path(sys.argv[1]); w['change_flower'](); "
    given += "from flwr.supernode.runtime import run_clientapp as app; from flwr.cli.install import install_from_fab; "
    given += "pull, install = app.pull_and_inflate_object_from_tree, app.install_from_fab; "
    given += (
        "print(pull.keywords['backoff_cap'], install.func is w['install_whole'], install.args == (install_from_fab,))"
    )
    done = subprocess.run([*ISOLATED, "-c", given, str(WARM)], capture_output=True, text=True, check=True)
    assert done.stdout == "0.5 True True\n"
