"""nginx's and the SuperLink's logs are cut while they go on writing."""

import sys
import time

import pytest

from server.deployment import superlink as running
from server.deployment.superlink import LOG, superlink
from shared.runtime import children
from shared.runtime.children import cut_if_long
from shared.runtime.flower_home import launch_environment
from tests.server.deployment.stand import call, make_consortium


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(children, "LARGEST_LOG", 1000)


def test_nginx_goes_on_writing_in_a_log_that_was_cut(fronted, short):
    log = fronted.consortium.kit.state / "nginx" / "access.log"
    calls = 0
    while not log.exists() or log.stat().st_size <= 1000:
        call(fronted.consortium, "centre-a", "/v1/control/cut")
        calls += 1
    until(lambda: log.read_text().count("/cut") == calls)  # a line is written after its answer was sent
    cut_if_long(log)
    call(fronted.consortium, "centre-a", "/v1/control/after")
    deadline = time.monotonic() + 5
    while "after" not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert "cut" not in log.read_text()
    assert "\0" not in log.read_text()
    assert "cut" in log.with_name("access.log.1").read_text()


def until(met):
    deadline = time.monotonic() + 30
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.02)


TALKER = """
import socket, sys, time
place = socket.create_server(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])))
while True:
    print("said", flush=True)
    time.sleep(0.01)
"""


def test_the_superlink_goes_on_writing_in_a_log_that_was_cut(tmp_path, short, monkeypatch):
    kit = make_consortium(tmp_path).kit
    monkeypatch.setattr(running, "COMMAND", (sys.executable, "-c", TALKER))
    environment = launch_environment(tmp_path / "home")
    log = kit.state / LOG
    with superlink(kit, tmp_path / "home", environment):
        until(lambda: log.stat().st_size > 1000)
        cut_if_long(log)
        until(lambda: log.stat().st_size > 0)
        assert set(log.read_bytes().split()) == {b"said"}
        assert log.stat().st_size < 1000
