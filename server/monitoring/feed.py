"""What the page shows, as it comes: from a server over the stream, or from run folders of this machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

from server.monitoring.status_client import Observer, connection, reason, watch

_GLANCE_S = 1.0
_BACKOFF_S = (1.0, 30.0)


class Feed:
    """The last moment, and a bell for those who wait for the next.

    A moment is `run` (a snapshot, or None before the first), `ahead_s` (this machine's clock against the server's) and
    `link`: `ok`, `since` (when it was made or lost, seconds since 1970), `seen` (the last sign), `why`.
    """

    def __init__(self) -> None:
        self._bell = threading.Condition()
        self._number = 1
        self._moment: dict[str, Any] = {
            "run": None, "ahead_s": 0.0, "link": {"ok": False, "since": time.time(), "seen": None, "why": "connecting"},
        }  # fmt: skip

    def publish(self, run: dict[str, Any], ahead_s: float = 0.0) -> None:
        """A snapshot has come."""
        link = self._moment["link"]
        now = time.time()
        since = link["since"] if link["ok"] else now
        self._ring({"run": run, "ahead_s": ahead_s, "link": {"ok": True, "since": since, "seen": now, "why": ""}})

    def lose(self, why: str) -> None:
        """The server cannot be reached; the last snapshot stays."""
        link = self._moment["link"]
        since = time.time() if link["ok"] else link["since"]
        self._ring(self._moment | {"link": {"ok": False, "since": since, "seen": link["seen"], "why": why}})

    def after(self, number: int, timeout: float) -> tuple[int, dict[str, Any]]:
        """The moment that follows `number` (0: any), with its own number; the same again when none came in time."""
        with self._bell:
            self._bell.wait_for(lambda: self._number > number, timeout)
            return self._number, self._moment

    def _ring(self, moment: dict[str, Any]) -> None:
        with self._bell:
            self._moment = moment
            self._number += 1
            self._bell.notify_all()


def follow_server(observer: Observer, run: str | None, feed: Feed, stop: threading.Event) -> None:
    """Feed from a server's stream until `stop`; connect again, each time after a longer wait, when it breaks."""
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
    """Feed from the run folders below `runs` until `stop`."""
    from server.monitoring.snapshot import snapshot

    told = None
    while not stop.is_set():
        found = snapshot(runs, run)
        if found is not told:
            told = found
            feed.publish(found)
        stop.wait(_GLANCE_S)


def begin(follow: Callable[[Feed, threading.Event], None]) -> tuple[Feed, threading.Event]:
    """Follow in the background; set the event to end it. It never keeps the process alive."""
    feed, stop = Feed(), threading.Event()
    threading.Thread(target=follow, args=(feed, stop), daemon=True, name="feed").start()
    return feed, stop
