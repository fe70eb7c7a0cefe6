"""What the live page shows, kept up to date from a server's stream or from the run folders of this machine."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import grpc

from server.monitoring.status_client import Observer, connection, reason, watch

_LOOK_EVERY_S = 1.0
_BACKOFF_S = (1.0, 30.0)


class Feed:
    """The latest state of a run, which one thread writes and others read.

    `latest` is a number that grows with every change, and the state: `run` (a snapshot, or None before the first),
    `ahead_s` (this machine's clock minus the server's, seconds) and `link` to the source: `ok`, `since` (when it was
    made or lost, seconds since 1970), `seen` (when it last answered) and `why` it is lost.
    """

    def __init__(self) -> None:
        link = {"ok": False, "since": time.time(), "seen": None, "why": "connecting"}
        self.latest: tuple[int, dict[str, Any]] = (1, {"run": None, "ahead_s": 0.0, "link": link})

    def publish(self, run: dict[str, Any], ahead_s: float = 0.0) -> None:
        """Take a new snapshot."""
        number, state = self.latest
        now, link = time.time(), state["link"]
        link = {"ok": True, "since": link["since"] if link["ok"] else now, "seen": now, "why": ""}
        self.latest = number + 1, {"run": run, "ahead_s": ahead_s, "link": link}

    def lose(self, why: str) -> None:
        """Note that the server cannot be reached; the last snapshot stays."""
        number, state = self.latest
        link = state["link"]
        since = time.time() if link["ok"] else link["since"]
        self.latest = number + 1, state | {"link": {"ok": False, "since": since, "seen": link["seen"], "why": why}}


def follow_server(observer: Observer, run: str | None, feed: Feed, stop: threading.Event) -> None:
    """Publish a server's snapshots until `stop`; reconnect with growing pauses when the stream breaks."""
    wait = _BACKOFF_S[0]
    while not stop.is_set():
        with connection(observer) as channel:
            try:
                for snapshot, ahead_s in watch(channel, run):
                    wait = _BACKOFF_S[0]
                    feed.publish(snapshot, ahead_s)
                why = "the server ended the stream"
            except grpc.RpcError as error:
                why = reason(error)
        feed.lose(why)
        stop.wait(wait)
        wait = min(2 * wait, _BACKOFF_S[1])


def follow_folder(runs: Path, run: str | None, feed: Feed, stop: threading.Event) -> None:
    """Publish snapshots of a run folder below `runs` until `stop`."""
    from server.monitoring.snapshot import snapshot

    last = None
    while not stop.is_set():
        current = snapshot(runs, run)
        if current is not last:  # the same object until something changes
            feed.publish(current)
        last = current
        stop.wait(_LOOK_EVERY_S)
