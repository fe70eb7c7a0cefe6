"""What the page is fed: from a real server that comes and goes, and from folders."""

import threading
import time

import pytest

from server.monitoring import feed as feeding
from server.monitoring.feed import Feed, follow_folder, follow_server
from server.monitoring.status_client import read_observer
from server.monitoring.status_service import serve_status


def in_background(follow, source):
    feed, stop = Feed(), threading.Event()
    threading.Thread(target=follow, args=(source, None, feed, stop), daemon=True).start()
    return feed, stop


def until(feed, wanted, seconds=10.0):
    """The first moment that is as wanted."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        _, moment = feed.latest
        if wanted(moment):
            return moment
        time.sleep(0.02)
    pytest.fail(f"never came; last: {moment}")


def test_a_lost_server_is_told_with_its_last_sign_and_found_again(kit, run, port, monkeypatch):
    monkeypatch.setattr(feeding, "_BACKOFF_S", (0.2, 0.4))
    run.progress("train", 1, 4)
    first = serve_status(kit, run.runs, "127.0.0.1", port)
    observer = read_observer(kit)
    feed, stop = in_background(follow_server, observer)
    seen = until(feed, lambda moment: moment["link"]["ok"])
    assert seen["run"]["done"] == 1
    first.stop(None).wait(5)
    lost = until(feed, lambda moment: not moment["link"]["ok"])
    assert lost["run"] == seen["run"]  # the page keeps what was known
    assert lost["link"]["seen"] == seen["link"]["seen"] <= lost["link"]["since"]
    assert lost["link"]["why"]
    again = until(feed, lambda moment: moment["link"]["why"].startswith("no connection"))
    assert again["link"]["since"] == lost["link"]["since"]  # since it was lost, not since the last try
    run.progress("train", 2, 4)
    second = serve_status(kit, run.runs, "127.0.0.1", port)
    assert until(feed, lambda moment: moment["link"]["ok"])["run"]["done"] == 2
    stop.set()
    second.stop(None).wait(5)


def test_who_may_not_watch_is_told_why(kit, run, port, authority):
    certificate, key = authority.issue("site", "centre-a")
    from tests.server.monitoring.conftest import pem

    (kit / "certificates" / "observer.crt").write_bytes(pem(certificate))
    (kit / "keys" / "observer.key").write_bytes(key)
    server = serve_status(kit, run.runs, "127.0.0.1", port)
    observer = read_observer(kit)
    feed, stop = in_background(follow_server, observer)
    assert "observer" in until(feed, lambda moment: moment["link"]["why"] != "connecting")["link"]["why"]
    stop.set()
    server.stop(None).wait(5)


def test_a_wait_between_two_tries_grows_and_begins_anew_after_a_sign(monkeypatch, kit):
    waits = []

    class Stop(threading.Event):
        def wait(self, timeout=None):
            waits.append(timeout)
            if len(waits) == 9:
                self.set()
            return True

    calls = iter(range(100))

    def once_good(channel, run):
        if next(calls) == 7:
            yield {"state": "waiting"}, 0.0

    monkeypatch.setattr(feeding, "watch", once_good)
    follow_server(read_observer(kit), None, Feed(), Stop())
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 1.0, 2.0]


def test_run_folders_are_followed_without_a_server(run):
    feed, stop = in_background(follow_folder, run.runs)
    assert until(feed, lambda moment: moment["link"]["ok"])["run"]["state"] == "waiting"
    run.progress("prepare", 3, 9)
    assert until(feed, lambda moment: moment["run"]["state"] == "running")["run"]["done"] == 3
    stop.set()
