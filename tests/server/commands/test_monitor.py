"""`fedbreast monitor` and `health`, as a user calls them."""

import os
import re
import signal
import subprocess
import sys
import urllib.request

import pytest

from server.monitoring.status_service import serve_status
from tests.server.monitoring.conftest import entry

ENVIRONMENT = {**os.environ, "NO_COLOR": "1", "COLUMNS": "120"}


def call(*arguments):
    command = [sys.executable, "-c", "from server.commands.cli import main; main()", *map(str, arguments)]
    return subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
    )


@pytest.fixture
def going(run):
    run.progress("train", 2, 4, "lesion-segmentation, round 3: training")
    for number in (1, 2):
        run.commit(number, {"centre-a": entry(cases=21, loss=0.625, dice=[0.75]), "centre-b": entry("absent")}, 60.0)
    return run


def test_health_and_one_look_over_the_wire(kit, going, port):
    server = serve_status(kit, going.runs, "127.0.0.1", port)
    looks = [call("monitor", kit, "--once"), call("health", kit)]
    (table, table_error), (line, line_error) = (process.communicate(timeout=60) for process in looks)
    server.stop(None).wait(5)
    down, why = (process := call("health", kit)).communicate(timeout=60)
    assert (looks[0].returncode, looks[1].returncode, process.returncode) == (0, 0, 1), table_error + line_error
    assert line == f"127.0.0.1:{port}: SERVING\n"
    assert down == ""
    assert why.startswith(f"error: 127.0.0.1:{port} is not serving: no connection")
    assert why.count("\n") == 1
    assert "first: running: training 2/4" in table
    assert "about 2 min of training left" in table
    assert re.search(r"centre-a .*connected .*21 .*0\.625 .*0\.750", table)
    assert re.search(r"centre-b .*absent", table)


@pytest.mark.parametrize("source", ["folder", "server"])
def test_the_page_comes_up_and_ctrl_c_ends_it_without_a_trace(source, kit, going, port):
    server = serve_status(kit, going.runs, "127.0.0.1", port)
    process = call("monitor", *((kit,) if source == "server" else ("--runs", going.runs)))
    try:
        url = re.match(r"http://127\.0\.0\.1:\d+/", process.stdout.readline()).group()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=10) as page:
            assert b"monitor.js" in page.read()
        with opener.open(url + "events", timeout=60) as events:
            found = b""
            while b'"run": "first"' not in found:
                found = events.readline()
            process.send_signal(signal.SIGINT)
            _, error = process.communicate(timeout=30)
    finally:
        process.kill()
        server.stop(None).wait(5)
    assert (process.returncode, error) == (0, "")
