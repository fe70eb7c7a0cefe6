"""A run's processes: found by their mark, ended with their children, also by a guard when the launcher was killed."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from shared.runtime.processes import MARK, end_processes, guarded, processes_of

ROOT = Path(__file__).resolve().parents[3]
linux_only = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc to see what is left")

TREE = """
import os, signal, subprocess, sys, time
sleeper = [sys.executable, "-c", "import signal, time; {prelude}print(flush=True); time.sleep(60)"]
def start(prelude, **options):
    child = subprocess.Popen([*sleeper[:2], sleeper[2].format(prelude=prelude)], stdout=subprocess.PIPE, **options)
    child.stdout.readline()
    return child.pid
deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN); "
pids = [start(""), start(deaf)]
pids.append(start(deaf, env={}))  # its environment is gone: only its parent leads to it, and that one ends first
reader, writer = os.pipe()
between = os.fork()
if between == 0:  # a daemon, as Ray's: forked twice, in a session of its own
    os.setsid()
    os.write(writer, str(start("", start_new_session=True)).encode())
    os._exit(0)
pids.append(int(os.read(reader, 20)))
os.waitpid(between, 0)
print(*pids, flush=True)
time.sleep(60)
"""


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@linux_only
def test_every_process_of_a_run_is_found_and_ended_and_no_other():
    mark, bystander_mark = uuid.uuid4().hex, uuid.uuid4().hex
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with (
        subprocess.Popen(command, env={**os.environ, MARK: bystander_mark}) as bystander,
        subprocess.Popen([sys.executable, "-c", TREE], env={**os.environ, MARK: mark}, stdout=subprocess.PIPE) as tree,
    ):
        try:
            children = [int(item) for item in tree.stdout.readline().split()]
            assert len(children) == 4
            assert {item.pid for item in processes_of(mark)} == {tree.pid, *children}
            end_processes(mark)
            assert not [pid for pid in (tree.pid, *children) if alive(pid)]
            assert processes_of(mark) == set()
            assert alive(bystander.pid)
        finally:
            bystander.kill()
            tree.kill()
            for pid in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


GUARDED = """
import pathlib, subprocess, sys, time
from shared.runtime.processes import MARK, guarded
home, mark = pathlib.Path(sys.argv[1]), sys.argv[2]
with guarded(home, mark):
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    print(subprocess.Popen(command, env={MARK: mark}, start_new_session=True).pid, flush=True)
    if sys.argv[3] == "killed":
        time.sleep(60)
"""


@linux_only
@pytest.mark.parametrize("end", ["killed", "left"])
def test_a_guard_cleans_up_after_its_process_however_that_ends(tmp_path, end):
    home = tmp_path / "home"
    home.mkdir()
    command = [sys.executable, "-c", GUARDED, str(home), uuid.uuid4().hex, end]
    with subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE
    ) as run:
        child = int(run.stdout.readline())
        if end == "killed":
            assert alive(child)
            run.kill()
    deadline = time.monotonic() + 20
    while (home.exists() or alive(child)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not home.exists()
    assert not alive(child)


def wait_for_command(word):
    """Command lines with a word; for a moment after its start a process has none."""
    deadline = time.monotonic() + 10
    lines = []
    while not lines and time.monotonic() < deadline:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):  # ended meanwhile
                lines.append(path.read_bytes().split(b"\0"))
        lines = [line for line in lines if word in line]
    return lines


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc")
def test_the_guard_is_started_isolated_and_from_source(tmp_path):
    home = str(tmp_path / "home")
    with guarded(Path(home), "no mark"):
        (line,) = wait_for_command(home.encode())
    assert b"-I" in line
    assert any(item.endswith(b"/fedbreast.py") for item in line)
