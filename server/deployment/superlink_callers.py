"""Which user of this machine calls the SuperLink: Flower's asks nobody, and whoever may start a run runs its code.

The SuperLink listens on loopback alone, so a caller is a process of this machine, and Linux's table of connections says
whose socket it is. Other users are refused before Flower sees a call; nothing has to be known, sent or kept secret.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from pathlib import Path
from typing import Any

from shared.runtime.flower_internals import flower_internal, replace_flower_internal

FLEET = "/v1/fleet/"
"""What nginx, which may be a user of its own, lets hospitals call: there Flower checks the node's key."""
TABLE = Path("/proc/net/tcp")
"""See proc(5): addresses in this machine's order of bytes; then state, and in the end user and inode."""
_ESTABLISHED = "01"
_NOBODYS = "0"
"""The inode where the caller has closed its socket; its user then reads 0, as root's would."""
_REFUSED = b"this SuperLink is another user's\n"

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def user_of(caller: tuple[str, int], called: tuple[str, int]) -> int | None:
    """Whose the caller's end of an IPv4 connection of this machine is; None where it has no owner, or is not there."""
    numbers = [(int.from_bytes(socket.inet_aton(host), sys.byteorder), port) for host, port in (caller, called)]
    ends = [f"{address:08X}:{port:04X}" for address, port in numbers]
    for line in TABLE.read_text(encoding="ascii").splitlines()[1:]:
        fields = line.split()
        if fields[1:4] == [*ends, _ESTABLISHED] and fields[9] != _NOBODYS:
            return int(fields[7])
    return None


class OwnUsers:
    """Refuses each call of others than `users` with 403, but below `open_below`; an ASGI middleware."""

    def __init__(self, app: App, users: Collection[int], open_below: str | None = None) -> None:
        self.app, self.users, self.open_below = app, users, open_below

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] == "lifespan" or self._may(scope):
            await self.app(scope, receive, send)
        else:
            await send({"type": "http.response.start", "status": 403, "headers": [(b"connection", b"close")]})
            await send({"type": "http.response.body", "body": _REFUSED})

    def _may(self, scope: Scope) -> bool:
        is_open = self.open_below is not None and scope["path"].startswith(self.open_below)
        return is_open or user_of(scope["client"], scope["server"]) in self.users


def bind() -> None:
    """Have the SuperLink that this process will start answer this user and root alone, and hospitals' calls.

    Only where the system has such a table, which is on Linux.
    """
    if not TABLE.exists():
        return
    os.environ["FORWARDED_ALLOW_IPS"] = ""  # else uvicorn takes a caller's address from its own header
    flowers = flower_internal("flwr.superlink.main:create_app")

    def create_app(config: Any, *more: Any) -> Any:
        app = flowers(config, *more)
        app.add_middleware(OwnUsers, users={os.geteuid(), 0}, open_below=None if config.simulation else FLEET)
        return app

    replace_flower_internal("flwr.superlink.main:create_app", create_app)
