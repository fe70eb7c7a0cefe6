"""The live page: served to this machine alone, fed by events, and well laid out in a browser."""

import http.client
import json
import threading
import time
from contextlib import ExitStack, closing

import pytest

from server.monitoring.feed import Feed
from server.monitoring.live_page import MOST_READERS, PageServer
from server.monitoring.snapshot import snapshot
from shared.errors import RunError
from tests.server.monitoring.chromium import CHROMIUM, tab
from tests.server.monitoring.conftest import RunFolder, entry


@pytest.fixture
def feed():
    return Feed()


@pytest.fixture
def page(feed):
    server = PageServer(feed, 0)
    thread = threading.Thread(target=server.serve_page)
    thread.start()
    yield server
    server.should_exit = True
    thread.join(5)
    assert not thread.is_alive()


@pytest.fixture
def get(page):
    """Answers, closed at the end."""
    with ExitStack() as stack:

        def ask(path, **headers):
            connection = stack.enter_context(closing(http.client.HTTPConnection("127.0.0.1", page.port, timeout=10)))
            connection.request("GET", path, headers=headers)
            return stack.enter_context(connection.getresponse())

        yield ask


def event(answer):
    """The next event's object; comments are passed over."""
    while not (line := answer.readline()).startswith(b"data: "):
        assert line in {b"\n", b":\n"}, line
    return json.loads(line.removeprefix(b"data: "))


def test_the_page_s_files_come_with_a_policy_that_lets_nothing_else_in(get):
    for path, kind in (("/", "html"), ("/monitor.css", "css"), ("/monitor.js", "javascript"), ("/charts.js", "javasc")):
        answer = get(path)
        policy = answer.headers["Content-Security-Policy"]
        assert answer.status == 200
        assert kind in answer.headers["Content-Type"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        text = answer.read().decode()
        assert "://" not in text.replace("http://www.w3.org/2000/svg", "")
        assert "innerHTML" not in text
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "Server" not in answer.headers
    assert get("/../live_page.py").status == 404
    assert get("/live_page.py").status == 404
    assert get("/docs").status == get("/openapi.json").status == 404
    assert "default-src 'none'" in get("/no-such-page").headers["Content-Security-Policy"]


def test_another_s_name_for_this_machine_does_not_open_the_page(page, get):
    assert get("/", Host="evil.example").status == 403
    assert get("/events", Host=f"evil.example:{page.port}").status == 403
    assert {item.getsockname()[0] for item in page.servers[0].sockets} == {"127.0.0.1"}


def test_events_bring_the_moment_at_once_and_each_later_one(feed, get):
    answer = get("/events")
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert event(answer)["run"] is None
    feed.publish({"state": "waiting"}, 2.5)
    found = event(answer)
    assert (found["run"], found["ahead_s"], found["link"]["ok"]) == ({"state": "waiting"}, 2.5, True)
    feed.lose("pulled cable")
    found = event(answer)
    assert (found["run"], found["link"]["ok"], found["link"]["why"]) == ({"state": "waiting"}, False, "pulled cable")


def test_a_closed_page_gives_its_place_back(get):
    answers = [get("/events") for _ in range(MOST_READERS)]
    assert get("/events").status == 503
    answers.pop().close()
    deadline = time.monotonic() + 10
    while get("/events").status != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_taken_port_is_an_error_with_a_remedy(page):
    with pytest.raises(RunError, match="--port"):
        PageServer(Feed(), page.port)


@pytest.fixture
def trial(tmp_path):
    """Four sites, one absent and one training, in round 3 of 5 of phantoms."""
    names = ("centre-a", "centre-b", "centre-c", "university-hospital-of-the-north")
    run = RunFolder(tmp_path / "runs", "a-trial-with-a-long-name-20260102-030405")
    run.start(rounds=5, sites=names, data={"phantom": {"cases_per_site": 2}})
    run.progress("train", 2, 5, "lesion-segmentation, round 3: training", time.time() - 5)
    for number in (1, 2):
        sites = {name: entry(loss=1 / number, dice=[0.4 * number]) for name in names}
        run.commit(number, sites | {"centre-c": entry("absent", reason="no answer <b>before</b> the deadline")})
    states = {name: {"state": "connected", "since": time.time() - 90, "reason": ""} for name in names}
    states["centre-a"]["state"] = "training"
    states["centre-c"] |= {"state": "absent", "reason": "no answer <b>before</b> the deadline"}
    run.write("sites.json", {"sites": states, "at": time.time()})
    return run


PROBE = """({
  name: document.getElementById("name").textContent, state: document.getElementById("state").textContent,
  bar: document.getElementById("bar").value, phantom: !document.getElementById("phantom").hidden,
  needed: document.documentElement.scrollWidth, width: document.documentElement.clientWidth,
  cut: [...document.querySelectorAll("h1, h2, h3, p, .tile, dd, figure, svg")].filter(item => item.checkVisibility())
    .filter(item => item.getBoundingClientRect().right > innerWidth + 0.5).map(item => item.outerHTML.slice(0, 80)),
  tiles: [...document.querySelectorAll(".tile")].map(item => [item.querySelector("h3").textContent,
    item.querySelector(".state b").textContent, getComputedStyle(item.querySelector(".state b")).color]),
  reason: document.querySelector(".reason")?.textContent,
  lines: [...document.querySelectorAll("figure")].map(item => item.querySelectorAll("path").length),
  text: Math.min(...[...document.querySelectorAll("svg text")].map(item => item.getBoundingClientRect().height)),
  rows: document.querySelectorAll("tbody tr").length, bold: document.querySelectorAll(".reason b, td b").length,
  lost: document.getElementById("lost").hidden ? "" : document.getElementById("lost").textContent,
})"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: the page's layout is not looked at")
def test_in_a_browser_the_page_fits_and_follows_the_run(page, feed, trial, tmp_path):
    feed.publish(snapshot(trial.runs))
    with tab(tmp_path / "profile") as browser:
        for width, dark in ((1280, False), (390, False), (390, True)):
            browser.open("about:blank", width)
            browser.open(page.url, width, dark=dark)
            browser.until("document.querySelectorAll('.tile').length === 4")
            found = browser.run(PROBE)
            assert found["needed"] <= found["width"] == width
            assert found["cut"] == []
            assert found["name"] == "a-trial-with-a-long-name-20260102-030405"
            assert found["state"] == "Training 2 of 5: lesion-segmentation, round 3: training"
            assert found["bar"] == pytest.approx(0.4)
            assert found["phantom"]
            assert [item[1] for item in found["tiles"]] == ["training", "connected", "absent", "connected"]
            assert len({item[2] for item in found["tiles"]}) == 3  # a colour a state
            assert found["reason"] == "no answer <b>before</b> the deadline"
            assert found["bold"] == 0  # text from outside stays text
            assert found["lines"] == [4, 5]
            assert found["text"] > 9
            assert found["rows"] == 2
            assert found["lost"] == ""
        check_what_changes(browser, feed, trial)
        asked = {item["params"]["request"]["url"] for item in browser.events
                 if item["method"] == "Network.requestWillBeSent"}  # fmt: skip
        assert asked - {"about:blank", "data:,"} == {
            page.url, *(page.url + name for name in ("monitor.css", "charts.js", "monitor.js", "events"))
        }  # fmt: skip
        assert [
            item for item in browser.events if item["method"] in {"Log.entryAdded", "Runtime.exceptionThrown"}
        ] == []


def check_what_changes(browser, feed, trial):
    feed.lose("no connection")
    browser.until("document.getElementById('lost').textContent.includes('not reachable since')")
    assert "Last seen" in browser.run(PROBE)["lost"]
    trial.commit(3, {"centre-a": entry(loss=0.2)})
    trial.progress("failed", text="too few <i>sites</i>")
    feed.publish(snapshot(trial.runs))
    browser.until("document.body.className === 'failed'")
    found = browser.run(PROBE)
    assert (found["state"], found["rows"], found["lost"]) == ("Failed: too few <i>sites</i>", 3, "")
    trial.write("results.json", {"provenance": {"outcome": "partial", "missing": ["centre-c missed round 1"]}})
    trial.progress("done", 1, 1)
    feed.publish(snapshot(trial.runs))
    browser.until("document.body.className === 'finished'")
    assert browser.run(PROBE)["state"] == "Finished, but partial: centre-c missed round 1"
    feed.publish(snapshot(trial.runs, "next"))
    browser.until("document.body.className === 'waiting'")
    assert browser.run(PROBE)["name"] == "Waiting for next"
