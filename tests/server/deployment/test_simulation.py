"""Processes owned and ended; what Flower is told. Flower is played here, `end_to_end/test_flwr_run.py` runs it."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from server.deployment import flower_cli, simulation
from server.deployment.simulation import federation_options, gpu_memory_gb, run_flower, sites_together
from shared.config.run_config import parse_config
from shared.errors import ConfigError, RunError
from shared.runtime import flower_home
from shared.runtime.progress import write_progress

ROOT = Path(__file__).resolve().parents[3]


SUPERLINK = """
import http.server, os, pathlib, subprocess, sys
home = pathlib.Path(os.environ["FLWR_HOME"])
(pathlib.Path(os.environ["FEDBREAST_ROOT"]) / "superlink.txt").write_text(str(home) + "|" + " ".join(sys.argv[1:]))
if os.environ.get("PLAY") == "no-start":
    sys.exit("the port is taken")
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *_):
        pass
port = int(sys.argv[sys.argv.index("--port") + 1])
http.server.HTTPServer(("127.0.0.1", port), Health).serve_forever()
"""

FLWR = """
import json, os, pathlib, signal, sys, time, tomllib
root, play = pathlib.Path(os.environ["FEDBREAST_ROOT"]), os.environ["PLAY"]
command = sys.argv[1]
if command == "run":
    settings = tomllib.loads(pathlib.Path(sys.argv[sys.argv.index("--run-config") + 1]).read_text())
    (root / "settings.json").write_text(json.dumps([sys.argv[2:], settings]))
    if play == "refused":
        print(json.dumps({"success": False, "error-message": "no such app"}))
        sys.exit(1)
    moments = {"good": "done", "reason": "failed", "hung": "failed", "stuck": "train"}.get(play)
    if moments:
        (root / "runs" / "one").mkdir(parents=True, exist_ok=True)
        progress = {"phase": moments, "done": 1, "total": 2, "text": "site b is gone", "at": time.time() + 1}
        (root / "runs" / "one" / "progress.json").write_text(json.dumps(progress))
    print("Successfully started run 7"); print(json.dumps({"success": True, "run-id": "7"}))
elif command == "list":
    asked = len(list(root.glob("asked-*")))
    (root / f"asked-{asked}").touch()  # a run that nobody ends must not hang the tests
    stuck = "running" if asked < 3 else "finished:failed"
    status = {"good": "finished:completed", "stuck": stuck, "hung": stuck}.get(play, "finished:failed")
    print(json.dumps({"runs": [{"status": status, "status-details": "no heartbeat"}]}))
else:
    print("what the app logged")
"""


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


linux_only = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc to see what is left")


@pytest.mark.parametrize(("sites", "gpus", "per_client"), [(3, 0, 0.0), (3, 1, 0.33), (4, 2, 0.5), (2, 4, 1.0)])
def test_flower_understands_the_simulation_settings(sites, gpus, per_client):
    from flwr.common.config import parse_config_args
    from flwr.supercore.utils import simulation_config_from_json

    parsed = parse_config_args([federation_options(sites, gpus)])
    settings = simulation_config_from_json({key.replace("-", "_"): value for key, value in parsed.items()})
    assert settings.num_supernodes == settings.init_args_num_cpus == sites
    assert settings.client_resources_num_cpus == 1
    assert settings.client_resources_num_gpus == pytest.approx(per_client)
    assert settings.init_args_num_gpus == gpus


@pytest.mark.parametrize(
    ("sites", "gpus", "together", "actors"),
    [(33, 1, 4, 4), (33, 2, 3, 6), (33, 8, 12, 33), (3, 1, 9, 3), (33, 2, 1, 2)],
)
def test_as_many_sites_have_a_share_of_a_gpu_as_fit_its_memory_and_ray_can_place_each(sites, gpus, together, actors):
    from flwr.common.config import parse_config_args

    parsed = parse_config_args([federation_options(sites, gpus, together)])
    share = np.float32(parsed["client-resources-num-gpus"])  # as Flower sends it
    # How Flower counts its actors (`pool_size_from_resources`); a whole number fits on each GPU.
    assert min(int(sites / 1), int(gpus / share)) == actors
    assert int(1 / share) * gpus >= actors


def test_sites_train_together_as_their_memory_says_and_one_that_does_not_fit_is_refused():
    raw = {"name": "t", "data": {"root": "d", "sites": ["a", "b"]}, "compute": {"gpu_memory_gb": 20.0}}
    config = parse_config(raw, "t")
    assert [sites_together(config, free) for free in (20.0, 79.9, 140.0)] == [1, 3, 7]
    with pytest.raises(ConfigError, match=r"takes 20 GB of a GPU, of which 15.5 GB are free: lower .*batch_size"):
        sites_together(config, 15.5)


def test_without_a_gpu_its_memory_is_no_number(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(RunError, match=r'torch sees no GPU here: .*compute.device = "cpu"'):
        gpu_memory_gb()


AN_APP = '[project]\nname = "toy"\nversion = "1"\n[tool.flwr.app]\n'


@pytest.fixture
def play(tmp_path, monkeypatch):
    """A checkout and a Flower that plays a part; returns a function that runs it."""
    binaries = tmp_path / "bin"
    binaries.mkdir()
    for name, text in (("flower-superlink", SUPERLINK), ("flwr", FLWR)):
        (binaries / name).write_text(f"#!{sys.executable}\n{text}")
        (binaries / name).chmod(0o755)
    root = tmp_path / "root"
    (root / "server").mkdir(parents=True)
    (root / "pyproject.toml").write_text(AN_APP)
    (root / "toy.toml").write_text('name = "toy"\n[data]\nroot = "x"\nsites = ["a", "b"]\n[compute]\ndevice = "cpu"\n')
    monkeypatch.setenv("FEDBREAST_ROOT", str(root))
    monkeypatch.setattr(flower_home, "BINARIES", binaries)
    monkeypatch.setattr(simulation, "COMMAND", ())  # else it would start Flower's own SuperLink

    def run(part, **options):
        monkeypatch.setenv("PLAY", part)
        run_flower(root / "toy.toml", run_name="one", **options)

    run.root = root
    return run


def nothing_left(root):
    home = Path((root / "superlink.txt").read_text().split("|")[0])
    needle = f"FLWR_HOME={home}".encode()
    left = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if needle in (folder / "environ").read_bytes().split(b"\0") and alive(folder.name):
                left.append(folder.name)
    return not left and not home.exists()


def test_a_run_that_completes_is_told_to_flower_watched_and_tidied(play):
    seen = []
    play("good", overrides={"seed": 3}, watch=seen.append)
    arguments, settings = json.loads((play.root / "settings.json").read_text())
    assert settings == {"config": str(play.root / "toy.toml"), "run-name": "one", "resume": "", "seed": 3}
    assert arguments[arguments.index("--federation-config") + 1] == federation_options(2, 0)
    assert [(item.phase, item.done, item.total) for item in seen] == [("done", 1, 2)]
    options = (play.root / "superlink.txt").read_text()
    assert "--host 127.0.0.1" in options
    assert "--disable-runtime-dependency-installation" in options
    assert nothing_left(play.root)


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        ("reason", "site b is gone; more in .*flower.log"),
        ("crash", "the run failed: no heartbeat; more in .*flower.log"),
        ("refused", "did not accept the run: no such app"),
        ("no-start", "(?s)SuperLink did not start.*the port is taken"),
    ],
)
def test_a_run_that_fails_says_why_and_leaves_nothing(play, part, reason):
    # What an earlier attempt of the same run left must not be taken for this one's end.
    (play.root / "runs" / "one").mkdir(parents=True)
    write_progress(play.root / "runs" / "one" / "progress.json", "failed", 0, 0, "an old reason")
    with pytest.raises(RunError, match=reason):
        play(part)
    assert nothing_left(play.root)
    if part in {"reason", "crash"}:
        assert "what the app logged" in (play.root / "runs" / "one" / "flower.log").read_text()


def test_a_run_that_failed_is_not_waited_for_when_flower_hangs(play, monkeypatch):
    monkeypatch.setattr(flower_cli, "_DYING_S", -5.0)
    with pytest.raises(RunError, match=r"site b is gone; more in .*flower.log"):
        play("hung")
    assert not list(play.root.glob("asked-3"))  # before Flower said that it had ended
    assert nothing_left(play.root)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_a_run_and_all_it_started(play, number):
    # Workers of parallel tests ignore Ctrl-C; a terminal's process does not.
    outer = signal.signal(number, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            play("stuck", watch=lambda _: os.kill(os.getpid(), number))
        assert nothing_left(play.root)
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, outer)


@linux_only
def test_when_a_launcher_is_killed_outright_another_process_tidies_up(play, monkeypatch):
    monkeypatch.setenv("PLAY", "stuck")
    code = (
        "import pathlib, sys; from server.deployment import simulation; from shared.runtime import flower_home\n"
        "flower_home.BINARIES, simulation.COMMAND = pathlib.Path(sys.argv[2]), ()\n"
        "simulation.run_flower(pathlib.Path(sys.argv[1]), run_name='one', watch=lambda _: print('up', flush=True))"
    )
    command = [sys.executable, "-c", code, str(play.root / "toy.toml"), str(flower_home.BINARIES)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as launcher:
        assert launcher.stdout.readline() == b"up\n"
        assert not nothing_left(play.root)
        launcher.kill()
    deadline = time.monotonic() + 20
    while not nothing_left(play.root) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert nothing_left(play.root)
