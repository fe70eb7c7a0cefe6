"""How a snapshot travels: the service's names, and its Structs. Server and observer agree on this alone."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

SERVICE = "fedbreast.Status"
GET, WATCH = "Get", "Watch"
RUN_KEY = "fedbreast-run"
"""Metadata that names a run."""
MOST_BYTES = 16 * 2**20


def to_struct(snapshot: Mapping[str, Any]) -> Struct:
    """A snapshot and the clock that its times were taken from."""
    message = Struct()
    message.update({**snapshot, "now": time.time()})
    return message


def from_struct(message: Struct) -> tuple[dict[str, Any], float]:
    """The snapshot, and how many seconds this machine's clock is ahead of the server's."""
    found: dict[str, Any] = MessageToDict(message)
    return found, time.time() - found.pop("now", time.time())
