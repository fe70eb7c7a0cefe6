"""Snapshots as messages, and the names that the proto file promises."""

import re
import time
from pathlib import Path

from server.monitoring import status_client
from server.monitoring import status_service as serving
from server.monitoring.status_client import from_struct, to_struct
from server.monitoring.status_service import Status, _handlers


def test_a_snapshot_survives_the_way_and_says_how_the_clocks_differ(monkeypatch):
    snapshot = {"run": "first", "left_s": None, "sites": [{"name": "centre-a", "loss": 0.25}], "phantom": True}
    message = to_struct(snapshot)
    now = time.time()
    monkeypatch.setattr(status_client.time, "time", lambda: now + 100.0)
    back, ahead_s = from_struct(type(message).FromString(message.SerializeToString()))
    assert back == snapshot
    assert 99 < ahead_s < 102


def test_the_proto_file_names_what_is_served(tmp_path):
    text = (Path(serving.__file__).parent / "status.proto").read_text()
    package = re.search(r"^package (\w+);", text, re.MULTILINE).group(1)
    name = re.search(r"^service (\w+)", text, re.MULTILINE).group(1)
    line = r"^\s*rpc (\w+)\(google\.protobuf\.Empty\) returns \((stream )?google\.protobuf\.Struct\)"
    methods = re.findall(line, text, re.MULTILINE)
    handlers = _handlers(Status(tmp_path, None))._method_handlers
    assert f"{package}.{name}" == status_client.SERVICE
    assert {f"/{package}.{name}/{method}": bool(stream) for method, stream in methods} == {
        path: handler.response_streaming for path, handler in handlers.items()
    }
