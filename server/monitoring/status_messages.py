"""What server and observer agree on: the status service's names, and snapshots as protobuf Structs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

SERVICE = "fedbreast.Status"
GET, WATCH = "Get", "Watch"
RUN_KEY = "fedbreast-run"
"""Metadata key of a call that asks for a certain run."""
MOST_BYTES = 16 * 2**20


def to_struct(snapshot: Mapping[str, Any]) -> Struct:
    """A snapshot as a message, with the server's time."""
    message = Struct()
    message.update({**snapshot, "now": time.time()})
    return message


def from_struct(message: Struct) -> tuple[dict[str, Any], float]:
    """The snapshot in a message, and this machine's clock minus the server's, seconds."""
    snapshot: dict[str, Any] = MessageToDict(message)
    return snapshot, time.time() - snapshot.pop("now", time.time())
