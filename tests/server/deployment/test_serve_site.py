"""`fedbreast serve-site` against a real server: what a hospital is told, and that nothing of it stays."""

import shutil
import signal
import subprocess
import time
from contextlib import contextmanager

import pytest

from shared.errors import RunError
from shared.runtime.audit_log import read, verify
from shared.runtime.flower_home import BINARIES
from shared.runtime.processes import _all_processes, _runs

pytestmark = pytest.mark.slow


def until(met, wait_s, what):
    deadline = time.monotonic() + wait_s
    while not met():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def with_data(consortium, name, copy=None):
    """A site's kit with a site folder; a copy of it when asked for."""
    kit = consortium.root / name
    (kit / "data").mkdir(exist_ok=True)
    (kit / "data" / "site.toml").write_text(f'[site]\nname = "{name}"\n')
    (kit / "data" / "cases.csv").write_text("patient\n")
    return shutil.copytree(kit, copy, ignore=shutil.ignore_patterns("state")) if copy else kit


@contextmanager
def serving(kit, log):
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [BINARIES / "fedbreast", "serve-site", kit], stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(timeout=30)


def family(process):
    everyone, found = list(_all_processes("")), {process.pid}
    while more := {item.pid for item in everyone if item.parent in found} - found:
        found |= more
    return {item for item in everyone if item.pid in found}


def test_a_second_node_is_told_why_and_ctrl_c_ends_the_first(served, tmp_path):
    log, kit = tmp_path / "log", with_data(served.consortium, "centre-a")
    with serving(kit, log) as first:
        until(lambda: " connected " in log.read_text(), 60, log.read_text())
        assert "no app is approved yet" in log.read_text()
        again = subprocess.run([BINARIES / "fedbreast", "serve-site", kit], capture_output=True, text=True, check=False)
        assert (again.returncode, again.stderr.count("served by another process already")) == (RunError.exit_code, 1)

        stolen = tmp_path / "stolen.log"
        with serving(with_data(served.consortium, "centre-a", tmp_path / "copy"), stolen) as second:
            until(lambda: "connection-ended" in stolen.read_text(), 60, stolen.read_text())
            assert "another node is connected with this site's key" in stolen.read_text()
            assert second.poll() is None  # it tries again
        assert "connected " not in stolen.read_text().partition("connection-ended")[0]
        assert "connection-ended" not in log.read_text()

        known, began = family(first), time.monotonic()
        first.send_signal(signal.SIGINT)
        assert first.wait(timeout=20) == 130
        assert time.monotonic() - began < 10
        assert not [item for item in known if _runs(item)]
    events = [line["event"] for line in read(kit / "state" / "audit.jsonl")]
    assert events == ["serving-started", "connected", "serving-ended"]
    assert verify(kit / "state" / "audit.jsonl").broken_at is None
    assert "Traceback" not in log.read_text()


def test_a_node_killed_outright_leaves_no_process_and_comes_back(served, tmp_path):
    log, kit = tmp_path / "log", with_data(served.consortium, "centre-b")
    with serving(kit, log) as process:
        until(lambda: " connected " in log.read_text(), 60, log.read_text())
        known = family(process)
        assert len(known) >= 4  # the guard, the node, the warm process, Flower's own
        process.kill()
        process.wait()
        until(lambda: not [item for item in known if _runs(item)], 20, "something is left")
    # Its guard ended the node, which said goodbye: the key is free at once.
    with serving(kit, tmp_path / "again"):
        until(lambda: " connected " in (tmp_path / "again").read_text(), 60, "it did not come back")


def test_it_is_said_when_the_server_goes_and_when_it_is_back(served, tmp_path):
    """Played with an address where nobody is, and then somebody."""
    kit = with_data(served.consortium, "centre-c", tmp_path / "kit")
    settings = (kit / "node.toml").read_text()
    (kit / "node.toml").write_text(settings.replace(str(served.consortium.port), "9"))
    log = tmp_path / "log"
    with serving(kit, log) as process:
        until(lambda: "server-unreachable" in log.read_text(), 60, log.read_text())
        assert "refused" in log.read_text()
        time.sleep(3)
        assert log.read_text().count("server-unreachable") == 1
        assert process.poll() is None
