"""Who of this machine's users a SuperLink answers: its own alone. Real connections, and a real SuperLink."""

import asyncio
import http.client
import os
import socket
import threading
import time
from contextlib import contextmanager

import pytest
import uvicorn
from flwr.proto.control_pb2 import ListRunsRequest, StartRunRequest

from server.deployment.simulation import _superlink
from server.deployment.superlink_callers import FLEET, TABLE, OwnUsers, user_of
from shared.runtime.children import free_ports
from shared.runtime.flower_home import launch_environment

NOBODY = 65534
LIST, START = "/v1/control/list-runs", "/v1/control/start-run"
ITS_OWN = os.geteuid()

pytestmark = pytest.mark.skipif(not TABLE.exists(), reason="whose a connection is, is in Linux's table")
as_root = pytest.mark.skipif(ITS_OWN != 0, reason="only root can call as another user")


@contextmanager
def served(**settings):
    """The port of a server that says "reached" to whoever it answers."""
    reached = []

    async def app(scope, _receive, send):
        if scope["type"] == "http":
            reached.append(scope["path"])
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"reached"})

    (port,) = free_ports(1)
    guarded = OwnUsers(app, **settings)
    server = uvicorn.Server(uvicorn.Config(guarded, port=port, lifespan="off", ws="none", log_level="error"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield port, reached
    finally:
        server.should_exit = True
        thread.join()


def call(port, path, *, user=ITS_OWN, headers=(), body=b"", method="POST"):
    """A call from a socket of another user; the answer's status."""
    opened = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    os.seteuid(user)
    try:
        opened.connect()
    finally:
        os.seteuid(ITS_OWN)
    try:
        opened.request(method, path, body, {"content-type": "application/protobuf", **dict(headers)})
        return opened.getresponse().status
    finally:
        opened.close()


def test_a_call_of_its_own_user_is_answered_and_anothers_is_not():
    with served(users={ITS_OWN}) as (port, reached):
        assert call(port, LIST) == 200
        assert reached == [LIST]
    with served(users={ITS_OWN + 1}, open_below=FLEET) as (port, reached):
        assert call(port, LIST) == call(port, "/v1/fleet", method="GET") == call(port, "/") == 403
        assert reached == []
        assert call(port, FLEET + "pull-messages") == 200  # hospitals come through nginx, a user of its own


def test_who_has_hung_up_is_nobody():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as caller:
        ends = caller.getsockname(), server.getsockname()
        assert user_of(*ends) == ITS_OWN
        assert user_of(*reversed(ends)) is None  # the server's end has no owner before it is accepted
        caller.close()
        assert user_of(*ends) is None


@as_root
def test_root_is_no_other_user_and_no_other_user_is_root():
    with served(users={0}) as (port, reached):
        assert call(port, LIST, user=NOBODY) == 403
        os.seteuid(NOBODY)
        try:
            opened = socket.create_connection(("127.0.0.1", port))
        finally:
            os.seteuid(0)
        opened.sendall(f"POST {START} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode())
        opened.close()  # its socket then has no user, which reads 0
        assert call(port, LIST) == 200
        assert reached == [LIST]


@pytest.mark.slow
@as_root
def test_another_user_of_this_machine_is_refused_by_a_simulations_superlink(tmp_path):
    question, start = ListRunsRequest().SerializeToString(), StartRunRequest().SerializeToString()
    with _superlink(tmp_path, launch_environment(tmp_path)) as link:
        port = int((tmp_path / "config.toml").read_text().rpartition(":")[2].split('"')[0])
        assert call(port, LIST, body=question) == 200
        assert link.is_alive()
        with socket.create_connection(("127.0.0.1", port)) as own:
            # Who says to be another connection: uvicorn would believe it.
            posed = {"x-forwarded-for": f"127.0.0.1:{own.getsockname()[1]}", "x-forwarded-proto": "https"}
            for headers in ({}, posed):
                assert call(port, LIST, user=NOBODY, body=question, headers=headers) == 403
                assert call(port, START, user=NOBODY, body=start, headers=headers) == 403
        for path in ("/docs", "/openapi.json", "/health", "/v1/runtime/claim-task", FLEET + "register-node"):
            assert call(port, path, user=NOBODY, method="GET") == 403
