"""The observer's side: where its credentials lie, and what a call that fails is called."""

from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from server.monitoring.status_client import connection, look, probe, read_observer, reason
from shared.errors import ConfigError, RunError


def test_the_health_check_says_serving_and_after_the_end_why_not(service, kit):
    assert probe(kit).endswith("SERVING")
    with connection(read_observer(kit)) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=""), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        first = next(health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=5))
        assert first.status == health_pb2.HealthCheckResponse.SERVING
    service.stop(None).wait(5)
    with pytest.raises(RunError, match="not serving: no connection"):
        probe(kit)


def test_an_observer_s_folder_leads_to_the_consortium_s_address(tmp_path, kit):
    (tmp_path / "observer.toml").write_text('address = "fed.example.org"\nstatus_port = 9444\n')
    for name in ("certificates/ca.crt", "certificates/observer.crt", "keys/observer.key"):
        (tmp_path / Path(name).name).write_bytes((kit / name).read_bytes())
    assert read_observer(tmp_path).where == "fed.example.org:9444"
    assert read_observer(kit).host == "127.0.0.1"  # the server's own kit is asked on its own machine
    (tmp_path / "observer.key").unlink()
    with pytest.raises(ConfigError, match=r"observer\.key"):
        read_observer(tmp_path)


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="neither an observer's folder nor a server's kit"):
        read_observer(tmp_path)
    (tmp_path / "observer.toml").write_text('address = "fed.example.org"\n')
    with pytest.raises(ConfigError, match=r"must have address and status_port"):
        read_observer(tmp_path)


def test_a_snapshot_comes_with_the_difference_of_the_clocks(service, kit):
    snapshot, ahead_s = look(read_observer(kit), None)
    assert snapshot["run"] == "first"
    assert abs(ahead_s) < 5


def test_no_server_is_one_line_that_says_where(kit):
    observer = read_observer(kit)
    with pytest.raises(RunError, match=rf"^{observer.where}: no connection: is the server running") as caught:
        look(observer, None)
    assert "\n" not in str(caught.value)


class Failed(grpc.RpcError):
    def __init__(self, code, details):
        self._code, self._details = code, details

    def code(self):
        return self._code

    def details(self):
        return self._details


def test_a_reason_is_short_and_one_line():
    assert reason(Failed(grpc.StatusCode.PERMISSION_DENIED, "only\n observers")) == "only observers (PERMISSION_DENIED)"
    assert len(reason(Failed(grpc.StatusCode.UNKNOWN, "x" * 5000))) < 330
    assert reason(Failed(grpc.StatusCode.DEADLINE_EXCEEDED, "")).startswith("no answer within 10 s")
