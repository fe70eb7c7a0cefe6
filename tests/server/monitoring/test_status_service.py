"""The status service over real gRPC and real TLS, each with certificates of its own."""

import time
from dataclasses import replace

import grpc
import pytest
from cryptography import x509
from google.protobuf.empty_pb2 import Empty
from grpc_health.v1 import health_pb2, health_pb2_grpc

from server.monitoring import status_service as serving
from server.monitoring.snapshot import snapshot
from server.monitoring.status_client import connection, look, probe, read_observer, watch
from server.monitoring.status_service import serve_status
from shared.errors import RunError
from tests.server.monitoring.conftest import Authority, pem


@pytest.fixture
def observer(kit):
    return read_observer(kit)


def as_somebody(observer, authority, unit):
    certificate, key = authority.issue(unit, "centre-a")
    return replace(observer, certificate=pem(certificate), key=key)


def test_an_observer_gets_the_snapshot_of_the_folder(service, run, observer):
    found, ahead_s = look(observer, None)
    assert found == snapshot(run.runs)
    assert abs(ahead_s) < 5


def test_watching_sends_at_once_and_on_each_change(service, run, observer):
    with connection(observer) as channel:
        stream = watch(channel, None)
        assert next(stream)[0]["done"] == 1
        run.progress("train", 2, 4)
        began = time.monotonic()
        assert next(stream)[0]["done"] == 2
        assert time.monotonic() - began < 5


def test_watching_sends_without_a_change_too(service, observer, monkeypatch):
    monkeypatch.setattr(serving, "AT_LEAST_EVERY_S", 1.5)
    with connection(observer) as channel:
        stream = watch(channel, None)
        assert next(stream)[0] == next(stream)[0]


def test_a_run_is_asked_for_by_name(service, observer):
    assert look(observer, "first")[0]["done"] == 1
    assert look(observer, "other")[0]["state"] == "waiting"
    with pytest.raises(RunError, match="folder's name"):
        look(observer, "../first")


@pytest.mark.parametrize("call", ["get", "watch", "health", "health-watch"])
def test_a_site_of_the_same_authority_is_denied(service, observer, authority, call):
    with connection(as_somebody(observer, authority, "site")) as channel:
        health, request = health_pb2_grpc.HealthStub(channel), health_pb2.HealthCheckRequest()
        calls = {
            "get": lambda: channel.unary_unary("/fedbreast.Status/Get", Empty.SerializeToString)(Empty(), timeout=5),
            "watch": lambda: next(watch(channel, None)),
            "health": lambda: health.Check(request, timeout=5),
            "health-watch": lambda: next(health.Watch(request, timeout=5)),
        }
        with pytest.raises(grpc.RpcError) as error:
            calls[call]()
    assert error.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert "only an observer" in error.value.details()


def test_the_server_s_own_certificate_is_no_observer_s(service, observer, authority):
    with pytest.raises(RunError, match=r"PERMISSION_DENIED|no connection"):
        look(as_somebody(observer, authority, "server"), None)


def test_a_revoked_observer_is_denied_from_the_next_call_on(service, kit, observer, authority):
    look(observer, None)
    own = x509.load_pem_x509_certificate(observer.certificate)
    (kit / "certificates" / "crl.pem").write_bytes(authority.revoke(own))
    with pytest.raises(RunError, match="was revoked"):
        look(observer, None)


def test_an_observer_revoked_while_watching_sees_no_further_update(service, run, kit, observer, authority):
    with connection(observer) as channel:
        stream = watch(channel, None)
        assert next(stream)[0]["done"] == 1
        own = x509.load_pem_x509_certificate(observer.certificate)
        (kit / "certificates" / "crl.pem").write_bytes(authority.revoke(own))
        run.progress("train", 2, 4)
        with pytest.raises(grpc.RpcError) as error:
            next(stream)
    assert error.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert "was revoked" in error.value.details()


def test_a_list_of_revoked_certificates_half_copied_lets_nobody_in_and_says_so(service, kit, observer):
    path = kit / "certificates" / "crl.pem"
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    with pytest.raises(RunError, match="cannot be read"):
        look(observer, None)
    path.write_bytes(whole)
    look(observer, None)


def refused(credentials, port, *, plain=False):
    where = f"127.0.0.1:{port}"
    with grpc.insecure_channel(where) if plain else grpc.secure_channel(where, credentials) as channel:
        with pytest.raises(grpc.RpcError) as error:
            channel.unary_unary("/fedbreast.Status/Get")(b"", timeout=10)
        return error.value.code() == grpc.StatusCode.UNAVAILABLE


def test_no_certificate_a_foreign_one_and_plain_text_are_refused(service, observer, port):
    foreign = as_somebody(observer, Authority(), "observer")
    assert refused(grpc.ssl_channel_credentials(observer.authority), port)
    assert refused(grpc.ssl_channel_credentials(observer.authority, foreign.key, foreign.certificate), port)
    assert refused(None, port, plain=True)
    look(observer, None)


def test_of_too_many_watchers_the_last_is_sent_away_and_the_health_check_goes_on(service, kit, observer):
    with connection(observer) as one, connection(observer) as two:
        streams = [watch(one if number % 2 else two, None) for number in range(serving.MOST_WATCHING)]
        for stream in streams:
            next(stream)
        with connection(observer) as late, pytest.raises(grpc.RpcError) as error:
            next(watch(late, None))
        assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert probe(kit).endswith("SERVING")
    for _ in range(50):  # places are free again once a watcher has gone
        with connection(observer) as again:
            try:
                next(watch(again, None))
                break
            except grpc.RpcError:
                time.sleep(0.1)
    else:
        pytest.fail("the places of watchers that went were not given back")


def test_a_taken_port_is_an_error_not_a_second_server(service, kit, run, port):
    with pytest.raises(RunError, match="cannot listen"):
        serve_status(kit, run.runs, "127.0.0.1", port)


def test_a_kit_without_its_key_says_which_file_is_missing(kit, run, port):
    (kit / "keys" / "server.key").unlink()
    with pytest.raises(RunError, match=r"server\.key"):
        serve_status(kit, run.runs, "127.0.0.1", port)
