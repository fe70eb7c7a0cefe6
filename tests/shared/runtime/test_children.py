"""Real child processes: their ports and logs, their readiness, and that none is left."""

import os
import signal
import socket
import sys
import time

import pytest

from shared.errors import RunError
from shared.runtime import children
from shared.runtime.children import child, cut_if_long, free_ports, listens, start, tail, wait_until_ready

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
DEAF = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)",
]


def is_up(log):
    return lambda: "up" in tail(log)


@pytest.mark.parametrize(("command", "code"), [(SLEEPER, -signal.SIGTERM), (DEAF, -signal.SIGKILL)])
def test_a_child_ends_with_its_context_also_when_it_ignores_sigterm(tmp_path, command, code):
    log = tmp_path / "log"
    with child(command, log, os.environ, grace_s=1.0) as process:
        wait_until_ready(process, "the sleeper", log, 30, is_up(log))
        assert process.poll() is None
        assert os.getpgid(process.pid) == process.pid  # Ctrl-C on the terminal does not reach it
    assert process.returncode == code


def test_a_child_that_ends_early_is_an_error_with_the_end_of_its_log(tmp_path):
    log = tmp_path / "log"
    log.write_text("before\n")
    command = [sys.executable, "-c", "import sys; print(*range(30), sep='\\n'); sys.exit('the port is taken')"]
    with (
        pytest.raises(RunError, match=r"(?s)^the server did not start:\n19\n.*the port is taken$"),
        child(command, log, os.environ) as process,
    ):
        wait_until_ready(process, "the server", log, 30, lambda: False)
    assert log.read_text().startswith("before\n0\n")  # appended


def test_a_child_that_is_never_ready_is_not_waited_for_longer_than_was_said(tmp_path):
    began = time.monotonic()
    with pytest.raises(RunError, match="did not start"), child(SLEEPER, tmp_path / "log", os.environ) as process:
        wait_until_ready(process, "the sleeper", tmp_path / "log", 0.3, lambda: False)
    assert time.monotonic() - began < 20
    assert process.returncode is not None


def test_a_child_has_the_given_environment_and_folder_and_no_input(tmp_path):
    command = [sys.executable, "-c", "import os, sys; print(os.environ['WORD'], os.getcwd(), repr(sys.stdin.read()))"]
    process = start(command, tmp_path / "log", {"WORD": "here"}, tmp_path)
    assert process.wait(30) == 0
    assert (tmp_path / "log").read_text() == f"here {os.path.realpath(tmp_path)} ''\n"


def test_a_log_that_is_not_there_has_no_end(tmp_path):
    assert tail(tmp_path / "nowhere") == ""
    assert isinstance(start(["true"], tmp_path / "log", os.environ).wait(30), int)
    with pytest.raises(FileNotFoundError):
        start([str(tmp_path / "no-such-program")], tmp_path / "log", os.environ)


def test_free_ports_differ_and_can_be_listened_on():
    ports = free_ports(20)
    assert len(set(ports)) == 20
    for port in ports:
        assert not listens(port)
    with socket.create_server(("127.0.0.1", ports[0])):
        assert listens(ports[0])
        assert not listens(ports[1])
    assert not listens(ports[0])


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(children, "LARGEST_LOG", 1000)


def test_a_long_log_begins_anew_and_one_old_part_is_kept(tmp_path, short):
    path = tmp_path / "some.log"
    with path.open("ab", buffering=0) as writer:
        for turn in range(3):
            writer.write(b"%d" % turn * 1000)
            cut_if_long(path)
            assert path.stat().st_size == 1000  # not too long yet
            writer.write(b".")
            cut_if_long(path)
            assert path.read_bytes() == b""
            assert (tmp_path / "some.log.1").read_bytes() == b"%d" % turn * 1000 + b"."
    assert len(list(tmp_path.iterdir())) == 2


def test_on_a_full_disk_room_is_made_all_the_same(tmp_path, short, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(children.shutil, "copyfile", full)
    (tmp_path / "some.log").write_bytes(bytes(2000))
    cut_if_long(tmp_path / "some.log")
    assert (tmp_path / "some.log").read_bytes() == b""


def test_a_log_that_is_not_there_yet_is_no_error(tmp_path):
    cut_if_long(tmp_path / "some.log")
    assert not list(tmp_path.iterdir())
