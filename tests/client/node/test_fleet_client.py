"""What a node makes of its calls to the server: whose refusal it was, and when the server is back."""

from datetime import UTC, datetime
from email.utils import format_datetime
from types import SimpleNamespace

import httpx
import pytest
from flwr.supernode.fleet_http_client import FleetHttpClient

from client.node import fleet_client as own
from shared.runtime.audit_log import AuditLog, read


def test_a_server_that_is_back_is_given_the_last_sign_of_life_at_once_and_both_are_told(tmp_path, monkeypatch):
    beats, answers = [], []

    def answer(*_, **__):
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return httpx.Response(found)

    monkeypatch.setattr(FleetHttpClient, "_send", answer)
    monkeypatch.setattr(FleetHttpClient, "SendNodeHeartbeat", lambda _, request: beats.append(request))
    made = own.fleet_client(SimpleNamespace(name="centre-a"), AuditLog(tmp_path / "audit.jsonl"))
    client = made.__new__(made)

    def call(*said):
        answers[:] = said
        for item in said:
            try:
                client._send(None)
            except httpx.ConnectError:
                assert isinstance(item, httpx.ConnectError)

    call(httpx.ConnectError("before its first sign of life"), 200)
    assert beats == []
    client.SendNodeHeartbeat("alive")
    call(200, 200)
    assert beats == ["alive"]
    call(httpx.ConnectError("cut"), httpx.ConnectError("cut"), 503)
    assert beats == ["alive"]
    call(200, 200)
    assert beats == ["alive", "alive"]
    told = [(line["event"], line.get("why")) for line in read(tmp_path / "audit.jsonl")]
    assert told == [
        ("server-unreachable", "before its first sign of life"),
        ("server-reached", None),
        ("server-unreachable", "cut"),
        ("server-reached", None),
    ]


@pytest.mark.parametrize(
    ("status", "kind", "apart_s", "line"),
    [
        (401, "text/html", 0, "401 door"),
        (401, "application/json", 1, "401 flower"),
        (401, "application/json", 310, "401 flower clocks differ by 310 s"),
        (401, "application/json", -10, "401 flower clocks differ by 10 s"),
        (412, "application/json", 3, "412 flower"),
    ],
)
def test_a_refusal_is_written_with_who_refused_and_how_far_the_clocks_are_apart(
    monkeypatch, status, kind, apart_s, line
):
    at = datetime.now(UTC)
    monkeypatch.setattr(own.time, "time", lambda: at.replace(microsecond=0).timestamp() + apart_s)
    headers = {"content-type": kind, "date": format_datetime(at, usegmt=True)}
    assert own._refusal(httpx.Response(status, headers=headers)) == line
    assert own._refusal(httpx.Response(status, headers={"content-type": kind, "date": "no date"})).count("clocks") == 0
