"""What starts the app: work for those who know the secret alone, and a token on no command line."""

import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import httpx
import pytest
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor, SuperExecAuthHttpInterceptor
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.superexec.executor import ExecutionSpec
from flwr.supernode.nodestate import NodeStateFactory

from client.node import app_starter
from client.node.app_starter import Starter
from shared.runtime.app_bundle import stage_app

# Flower's own server asks for an old name of another package.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:websockets", "ignore::DeprecationWarning:uvicorn")
ROOT = Path(__file__).resolve().parents[3]
TOKEN = "5e" * 32
SECRET = b"\x00\nonly the node's own \xff"
# The process that does what Flower's command does, played: it writes its arguments as others see them, and its token.
COMMAND = """import os, sys
from pathlib import Path
seen = Path("/proc/self/cmdline").read_text().replace("\\0", " ")
place = Path(sys.argv[sys.argv.index("--token-file") + 1])
found = Path({folder!r}, str(os.getpid()))
found.write_text(repr((seen, place.is_file(), place.read_text(), os.fstat(0).st_mode, os.fstat(0).st_nlink)))
found.rename(Path({folder!r}) / "told")
"""


def until(met, wait_s=15.0):
    deadline = time.monotonic() + wait_s
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def spec(task_type=TaskType.CLIENT_APP):
    return ExecutionSpec(
        task_type=task_type, runtime_api_address="127.0.0.1:9", token=TOKEN, insecure=True, root_certificates_path=None,
        runtime_dependency_install=False, parent_pid=os.getpid(), suppress_output=False, task_id=1,
    )  # fmt: skip


@pytest.fixture
def command(tmp_path, monkeypatch):
    """What the worker was given comes back. It stands in a copy of the program, which a node stages as well."""
    program = stage_app(ROOT, tmp_path / "program")
    worker = program / "client" / "node" / "warm_process.py"
    # The starter imports this module, too.
    worker.write_text(worker.read_text().partition("if __name__")[0] + "if __name__ == '__main__':\n")
    with worker.open("a") as stream:
        stream.write(textwrap.indent(COMMAND.format(folder=str(tmp_path)), "    "))
    monkeypatch.setattr(app_starter, "_WORKER", worker)
    monkeypatch.setattr(app_starter, "__file__", str(worker.with_name("app_starter.py")))
    return tmp_path / "told"


@contextmanager
def door():
    """A warm process that takes what it hears."""
    with tempfile.TemporaryDirectory(prefix="fb-") as folder, socket.socket(socket.AF_UNIX) as listening:
        place, heard = Path(folder) / "warm", []
        listening.bind(str(place))
        listening.listen()

        def take():
            call, _ = listening.accept()
            with call, call.makefile("rb") as stream:
                heard.append(json.loads(stream.read()))
                call.sendall(b"+")

        thread = threading.Thread(target=take)
        thread.start()
        yield place, heard
        thread.join(timeout=5)


def test_a_token_goes_through_the_warm_processs_door_and_no_process_is_started(command, monkeypatch):
    monkeypatch.setattr(app_starter.subprocess, "Popen", None)
    with door() as (place, heard):
        Starter(place).launch(spec())
    (given,) = heard
    assert given[:3] == ["--runtime-api-address", "127.0.0.1:9", "--insecure"]
    assert given[given.index("--token") + 1] == TOKEN
    assert given[given.index("--parent-pid") + 1] == str(os.getpid())


@pytest.mark.parametrize("place", [None, Path("/nowhere/warm")])
def test_without_a_warm_process_the_worker_finds_its_token_in_a_file_that_no_one_else_can_open(command, place):
    own = Starter(place)
    own.launch(spec())
    until(command.exists)
    own._cold[0].wait()
    seen, is_file, found, mode, links = eval(command.read_text(), {})  # noqa: S307 - our own
    assert "warm_process.py --runtime-api-address 127.0.0.1:9 --insecure" in seen
    assert f"{sys.executable} -I " in seen
    assert TOKEN not in seen
    assert (is_file, found, links) == (True, TOKEN, 0)
    assert stat.S_IMODE(mode) == 0o600


def test_flowers_own_command_takes_such_a_file(command):
    # `command` is not called here: Flower's own reading of its arguments is.
    from flwr.common.args import try_obtain_flwr_app_token
    from flwr.supernode.cli.flwr_clientapp import _parse_args_run_flwr_clientapp

    with app_starter._unnamed_file(TOKEN.encode()) as file:
        place = f"/proc/self/fd/{file.fileno()}"
        args = _parse_args_run_flwr_clientapp().parse_args(["--insecure", "--token-file", place])
        assert try_obtain_flwr_app_token(args) == TOKEN


@pytest.mark.parametrize("task_type", sorted(set(TaskType) - {TaskType.CLIENT_APP}))
def test_nothing_but_an_app_of_a_site_is_asked_for_or_started(monkeypatch, task_type):
    monkeypatch.setattr(app_starter.subprocess, "Popen", None)
    assert Starter(None).get_eligible_capacity(set(TaskType), insecure=True) == ({TaskType.CLIENT_APP}, set())
    assert Starter(None).launch(spec(task_type)).status == "failed"


@contextmanager
def api(secret):
    """The node's side of it: Flower's own, without a server behind it."""
    supernode = import_module("flwr.supernode.cli.flower_supernode")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    factory = NodeStateFactory(objectstore_factory=ObjectStoreFactory())
    config = type("Config", (), {"superexec_auth_secret": secret, "host": "127.0.0.1", "port": port})
    config.runtime_ssl_certfile = config.runtime_ssl_keyfile = None
    server, thread = supernode._start_supernode_http_api(config, factory)
    try:
        yield port, factory.state()
    finally:
        server.should_exit = True
        thread.join(timeout=5)


def asked(port, *secret):
    """What is handed out to somebody who calls, with a secret or without."""
    method = "/flwr.proto.Runtime/AcquireTask"
    known = [SuperExecAuthHttpInterceptor(master_secret=item, protected_methods={method}) for item in secret]
    client = RuntimeHttpClient.from_server_address(
        server_address=f"127.0.0.1:{port}", insecure=True, root_certificates=None,
        interceptors=[RuntimeVersionHttpInterceptor(component_name="SuperExec"), *known],
        retry_invoker=None,  # Flower's ends the process that is refused
    )  # fmt: skip
    try:
        return client.AcquireTask(AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP]))
    finally:
        client.close()


def test_work_is_handed_out_to_the_nodes_own_starter_and_to_nobody_else(command):
    with api(SECRET) as (port, state):
        task = state.create_task(task_type=TaskType.CLIENT_APP, run_id=7, fab_hash="ab" * 32)
        assert task is not None
        for secret in ((), (b"a guess",), (SECRET + b"\n",)):
            with pytest.raises(httpx.HTTPStatusError, match="401"):
                asked(port, *secret)
        parent = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        try:
            own = app_starter.start(port, None, parent.pid, SECRET)
            until(command.exists)
        finally:
            parent.communicate(b"\n")
        own.wait(timeout=10)  # it ends with the node
        seen, _, token, *_ = eval(command.read_text(), {})  # noqa: S307 - our own
        assert token not in seen
        assert state.get_task_by_token(token).task_id == task
        assert not asked(port, SECRET).token  # it has been taken


def test_without_a_secret_everybody_would_be_given_work():
    """What the secret is there for: Flower's own way, and the reason for this test's fellow above."""
    with api(None) as (port, state):
        state.create_task(task_type=TaskType.CLIENT_APP, run_id=7, fab_hash="ab" * 32)
        assert asked(port).token
