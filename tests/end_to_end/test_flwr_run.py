"""The real `flwr run`: processes, signals, resume, a path with spaces. Slow: each run starts a SuperLink and Ray."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from server.run_folder.results import read_results
from shared.runtime.processes import MARK, end_processes, processes_of
from tests.sockets import REFUSED, listening, stranger_at

ROOT = Path(__file__).resolve().parents[2]
CLI = [sys.executable, "-c", "from server.commands.cli import main; main()"]
LONGEST_S = 300

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc to see what is left"),
]


@pytest.fixture
def checkout(project, tmp_path):
    """A checkout at a path Flower would refuse, with the toy federation's configuration."""

    def make(**sections):
        toy = project(**sections)
        root = tmp_path / "my checkout (2)"
        root.mkdir(exist_ok=True)
        for name in ("pyproject.toml", "README.md", "LICENSE", "server", "client", "shared", "configs"):
            if not (root / name).exists():
                (root / name).symlink_to(ROOT / name)
        (root / "toy.toml").write_bytes((toy / "toy.toml").read_bytes())
        return root

    return make


def start(root, *arguments, **variables):
    environment = {**os.environ, "FEDBREAST_ROOT": str(root), "PYTHONPATH": str(ROOT), **variables}
    return subprocess.Popen(
        [*CLI, *arguments],
        env=environment,
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def launched(root):
    """Every process of this checkout's only run, without the command that started it."""
    marks = set()
    for file in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            variables = file.read_text(errors="replace").split("\0")
            if f"FEDBREAST_ROOT={root}" in variables:
                marks |= {item.partition("=")[2] for item in variables if item.startswith(f"{MARK}=")}
    (mark,) = marks
    return {item.pid for item in processes_of(mark)}


def open_to_others(folder):
    """What of a folder, itself included, its owner's group or the machine's other users may read or write."""
    return [path for path in (folder, *folder.rglob("*")) if path.lstat().st_mode & 0o077 and not path.is_symlink()]


def left(root):
    """Command lines of processes that still run for this checkout."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
            if state != "Z" and f"FEDBREAST_ROOT={root}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append((folder / "cmdline").read_text(errors="replace").replace("\0", " "))
    return found


def wait_for(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.2)
    return condition()


def models(root, name):
    return [
        json.loads(path.read_text())["model_hash"]
        for path in sorted((root / "runs" / name / "journal" / "lesion-segmentation").glob("round-*.json"))
    ]


def test_two_runs_at_once_do_not_meet_and_one_interrupted_resumes_to_the_same_bytes(checkout):
    root = checkout(federation={"rounds": 3})
    first, second = start(root, "run", "toy.toml", "--name", "first"), start(root, "run", "toy.toml", "--name", "cut")
    committed = root / "runs" / "cut" / "journal" / "lesion-segmentation" / "round-001.json"
    assert wait_for(committed.exists, LONGEST_S)
    second.send_signal(signal.SIGINT)
    _, errors = second.communicate(timeout=60)
    assert second.returncode == 130
    assert "resume with: fedbreast run --resume cut" in errors
    assert len(models(root, "cut")) < 4

    out, errors = first.communicate(timeout=LONGEST_S)
    assert first.returncode == 0, errors
    assert "PHANTOM DATA" in out
    assert str(root / "runs" / "first" / "report.html") in out
    assert read_results(root / "runs" / "first").provenance.name == "first"
    assert list((root / "runs" / "first" / "pictures").rglob("*.npz"))
    assert open_to_others(root / "runs") == []
    assert left(root) == []

    again = start(root, "run", "--resume", "cut")
    _, errors = again.communicate(timeout=LONGEST_S)
    assert again.returncode == 0, errors
    assert len(models(root, "first")) == 4
    assert models(root, "cut") == models(root, "first")
    assert left(root) == []


def test_a_run_that_cannot_start_fails_with_its_reason_and_leaves_nothing(checkout, phantom_root, tmp_path):
    data = tmp_path / "data"
    (data / "centre-x").mkdir(parents=True)  # a folder, and no site's
    for name in "abd":
        (data / f"centre-{name}").symlink_to(phantom_root / f"centre-{name}")
    sites = ["centre-a", "centre-b", "centre-x"]
    root = checkout(data={"root": str(data), "sites": sites}, federation={"min_sites": 3})
    process = start(root, "run", "toy.toml", "--name", "short")
    _, errors = process.communicate(timeout=LONGEST_S)
    assert process.returncode == 1
    assert errors.startswith("error: ")
    assert "federation.min_sites is 3" in errors
    assert "Traceback" not in errors
    assert left(root) == []


def test_h2_and_h12_a_run_listens_on_loopback_alone_refuses_strangers_and_writes_for_its_user_alone(checkout, tmp_path):
    root = checkout(federation={"rounds": 50})
    # On the way: a TMPDIR too long for Ray's sockets. Ray opens its folders to all: not where all can enter.
    long = tmp_path / ("long-" * 12)
    long.mkdir()
    open_to_all = set(Path("/tmp/ray").glob("session_*"))  # noqa: S108
    process = start(root, "run", "toy.toml", "--name", "run", TMPDIR=str(long), FEDBREAST_CACHE=str(tmp_path / "cache"))
    try:
        journal = root / "runs" / "run" / "journal" / "lesion-segmentation"
        assert wait_for((journal / "round-001.json").exists, LONGEST_S)
        pids = launched(root)
        words = [word for pid in pids for word in Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")]
        assert "--token-file" in words
        assert "--token" not in words  # each user can read command lines
        (address,) = {word.partition("=")[2] for word in words if word.startswith("--gcs-address=127.")}
        sockets = listening(pids | {process.pid})
        assert len(sockets) >= 6  # Flower's SuperLink; Ray's store, its scheduler's two and a worker for each site
        assert {host for host, _ in sockets} <= {"127.0.0.1", "::1"}
        assert int(address.rpartition(":")[2]) in {port for _, port in sockets}
        heard = stranger_at(address)
        assert REFUSED in heard
        assert "it ran" not in heard
        assert set(Path("/tmp/ray").glob("session_*")) == open_to_all  # noqa: S108
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)

    assert len([path for path in (tmp_path / "cache").rglob("*.npy") if path.stat().st_size > 1000]) >= 3
    assert open_to_others(root / "runs") + open_to_others(tmp_path / "cache") == []
    assert left(root) == []


def test_a_launcher_that_is_killed_outright_leaves_no_process(checkout, tmp_path):
    root = checkout(federation={"rounds": 50})
    # On the way: a TMPDIR too long for Ray's sockets.
    long = tmp_path / ("long-" * 12)
    long.mkdir()
    process = start(root, "run", "toy.toml", "--name", "killed", TMPDIR=str(long))
    assert wait_for((root / "runs" / "killed" / "journal" / "lesion-segmentation" / "round-001.json").exists, LONGEST_S)
    assert len(left(root)) > 3
    process.kill()
    process.communicate()
    assert wait_for(lambda: left(root) == [], 30)
    assert wait_for(lambda: list(long.glob("fb-*")) == [], 10)


def test_flowers_own_command_runs_the_checkout_offline(checkout, tmp_path):
    root = checkout(federation={"rounds": 1})
    app = tmp_path / "app"
    app.mkdir()
    for name in ("pyproject.toml", "fedbreast.py", "README.md", "LICENSE", "server", "client", "shared", "configs"):
        subprocess.run(["cp", "-r", str(ROOT / name), str(app)], check=True)
    environment = {
        **os.environ,
        MARK: "flwr-run-test",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "FLWR_HOME": str(tmp_path / "flwr"),
        "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": "39771",
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "UV_OFFLINE": "1",
        "FEDBREAST_ROOT": str(root),
    }
    command = ["flwr", "run", ".", "--federation-config", "num-supernodes=3", "--run-config"]
    try:
        done = subprocess.run(
            [*command, 'config="toy.toml" run-name="plain"'],
            cwd=app, env=environment, capture_output=True, text=True, check=False, timeout=LONGEST_S,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        finished = root / "runs" / "plain" / "progress.json"
        assert wait_for(lambda: finished.exists() and '"done"' in finished.read_text().split(",")[0], LONGEST_S)
        assert (root / "runs" / "plain" / "report.html").stat().st_size > 10_000
    finally:
        end_processes("flwr-run-test")
