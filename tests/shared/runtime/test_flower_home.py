import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from shared.runtime import flower_home
from shared.runtime.flower_home import fresh_home, launch_environment, simulation_home
from shared.runtime.processes import MARK, end_processes, processes_of
from tests.sockets import REFUSED, listening, stranger_at

CLUSTER = """
import ray
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
ray.get(ray.remote(lambda: 1).remote())
print(ray.get_runtime_context().gcs_address, flush=True)
input()
"""


def test_every_start_has_a_home_of_its_own(tmp_path):
    first = fresh_home(tmp_path)
    (first / "config.toml").write_text("")
    shutil.rmtree(first)
    second = fresh_home(tmp_path)
    assert second != first
    assert list(second.iterdir()) == []
    assert second.stat().st_mode & 0o077 == 0


def test_a_start_waits_until_the_guard_of_a_killed_one_has_removed_its_home(tmp_path):
    old = fresh_home(tmp_path)
    threading.Timer(0.5, shutil.rmtree, (old,)).start()
    started = time.monotonic()
    fresh_home(tmp_path)
    assert 0.4 < time.monotonic() - started < 5


def test_what_a_killed_guard_left_is_removed_after_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(flower_home, "_GUARD_S", 0.2)
    old = fresh_home(tmp_path)
    (old / "config.toml").write_text("")
    found = fresh_home(tmp_path)
    assert list(tmp_path.iterdir()) == [found]


def test_commands_of_an_environment_with_a_blank_in_its_path_run_by_one_without(tmp_path, monkeypatch):
    environment, home = tmp_path / "my checkout (2)" / ".venv", tmp_path / "home"
    (environment / "bin").mkdir(parents=True)
    home.mkdir()
    (environment / "bin" / "python").symlink_to(sys.executable)
    # As pip writes a command whose interpreter has a blank in its path.
    start = f"#!/bin/sh\n'''exec' \"{environment}/bin/python\" \"$0\" \"$@\"\n' '''\n"
    (environment / "bin" / "flwr-simulation").write_text(start + "import sys\nprint(sys.executable, *sys.argv[1:])\n")
    monkeypatch.setattr(flower_home, "BINARIES", environment / "bin")
    commands = flower_home.launch_environment(home)["PATH"].split(os.pathsep)[0]
    done = subprocess.run([f"{commands}/flwr-simulation", "a b", "c"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{home}/env/bin/python a b c"
    monkeypatch.setattr(flower_home, "BINARIES", tmp_path / "plain" / "bin")
    assert flower_home.plain_commands(home) == tmp_path / "plain" / "bin"


def test_h12_a_simulations_home_is_short_and_its_users_alone_where_tmpdir_is_long(tmp_path, monkeypatch):
    long = tmp_path / ("long-" * 12)
    long.mkdir()
    monkeypatch.setattr(flower_home.tempfile, "tempdir", str(long))
    with simulation_home() as home:
        assert len(home) <= 36
        assert Path(home).stat().st_mode & 0o077 == 0
        assert launch_environment(Path(home))["RAY_TMPDIR"] == home


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads /proc to see who listens")
def test_h2_a_simulations_ray_listens_on_loopback_alone_and_lets_no_stranger_in():
    with simulation_home() as home:
        environment = launch_environment(Path(home))
        command = [sys.executable, "-W", "ignore", "-c", CLUSTER]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        try:
            with subprocess.Popen(command, env=environment, **pipes) as cluster:
                address = cluster.stdout.readline().strip()
                sockets = listening({item.pid for item in processes_of(environment[MARK])})
                assert len(sockets) >= 4  # Ray's own store, its scheduler's two and a worker's
                assert {host for host, _ in sockets} <= {"127.0.0.1", "::1"}
                assert int(address.rpartition(":")[2]) in {port for _, port in sockets}
                heard = stranger_at(address)
                assert REFUSED in heard
                assert "it ran" not in heard
                cluster.stdin.close()
        finally:
            end_processes(environment[MARK])
