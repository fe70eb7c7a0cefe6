"""A hospital's node: which app gets through its gate, what it tells the app, and what it writes when it is refused."""

import hashlib
from datetime import UTC, datetime
from email.utils import format_datetime
from types import SimpleNamespace

import httpx
import pytest
import tomli_w
from flwr.supercore.fab import Fab

from client import node as own
from client.kit import APPROVED_FILE, SiteKit
from shared.audit import AuditLog, read
from shared.bundle import APP
from shared.errors import RunError

CONTENT = b"the bundle's bytes"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def kit(tmp_path):
    settings = {"server": {"address": "127.0.0.1", "port": 9443}, "site": {"name": "centre-a"}}
    (tmp_path / "node.toml").write_text(tomli_w.dumps(settings))
    return SiteKit(tmp_path)


def passed(kit, fab=None):
    """The bundle as Flower gets it, and the event that was recorded."""
    audit = AuditLog(kit.state / "audit.jsonl")
    found = own._gate(lambda *_: fab or Fab(DIGEST, CONTENT, {}), kit, audit, DIGEST, 7)
    *_, last = read(audit.path)
    return found, last


def test_an_approved_app_gets_a_licence_and_the_log_names_it(kit):
    kit.approve(DIGEST, "fedbreast 1.0")
    fab, line = passed(kit)
    assert fab.verifications.get("valid_license")
    assert (fab.hash_str, fab.content) == (DIGEST, CONTENT)
    assert (line["event"], line["app"], line["run"], line["site"]) == ("app-accepted", DIGEST, "7", "centre-a")


def test_an_app_that_is_not_approved_gets_none(kit):
    kit.approve("0" * 64, "another")
    fab, line = passed(kit)
    assert not fab.verifications
    assert (line["event"], line["app"]) == ("app-refused", DIGEST)


def test_a_withdrawn_app_gets_none(kit):
    kit.approve(DIGEST, "fedbreast 1.0")
    kit.withdraw(DIGEST[:8])
    assert not passed(kit)[0].verifications


def test_a_bundle_under_an_approved_name_is_judged_by_its_content(kit):
    kit.approve(DIGEST, "fedbreast 1.0")
    changed = CONTENT + b"."
    fab, line = passed(kit, Fab(DIGEST, changed, {}))
    assert not fab.verifications
    assert line["app"] == hashlib.sha256(changed).hexdigest()


def test_an_approved_bundle_under_another_name_gets_none(kit):
    kit.approve(DIGEST, "fedbreast 1.0")
    assert not passed(kit, Fab("f" * 64, CONTENT, {}))[0].verifications


def test_a_licence_that_the_server_sends_along_counts_nothing(kit):
    assert not passed(kit, Fab(DIGEST, CONTENT, {"valid_license": "1", "key": {"signature": "x"}}))[0].verifications


@pytest.mark.parametrize(
    "text", [b"[[app]]\nsha256 = 'x'", b"app = 3", b"[[app]\n", b"[[app]]\n", b"\xff", b"apps = []"]
)
def test_with_a_damaged_list_nothing_runs(kit, text):
    kit.approve(DIGEST, "fedbreast 1.0")
    (kit.folder / APPROVED_FILE).write_bytes(text)
    fab, line = passed(kit)
    assert not fab.verifications
    assert line["event"] == "app-refused"


def test_a_run_of_another_apps_name_is_refused(kit):
    def connect(**_):
        return _connection(lambda run: SimpleNamespace(fab_id=APP if run == 1 else "fedbreast/other"))

    with own._gated(connect, kit, AuditLog(kit.state / "audit.jsonl")) as (_, _, _, get_run, *_):
        assert get_run(1).fab_id == APP
        with pytest.raises(RunError, match="another app"):
            get_run(2)


class _connection:  # noqa: N801 - plays a function of Flower's
    def __init__(self, get_run):
        self._given = (5, lambda: None, None, get_run, lambda *_: Fab(DIGEST, CONTENT, {}), None, None, None)

    def __enter__(self):
        return self._given

    def __exit__(self, *_):
        return False


def test_the_gate_stands_before_flowers_own_functions(kit):
    with own._gated(lambda **_: _connection(None), kit, AuditLog(kit.state / "audit.jsonl")) as connection:
        assert len(connection) == 8
        assert connection[0] == 5
        assert not connection[4](DIGEST, 1).verifications
    assert [line["event"] for line in read(kit.state / "audit.jsonl")] == ["connected", "app-refused"]


def test_it_asks_for_a_message_until_there_is_one(monkeypatch):
    answers, slept = iter([None, None, "a message"]), []
    monkeypatch.setattr(own.time, "sleep", slept.append)
    assert own._patient(lambda: next(answers)) == "a message"
    assert slept == [own.POLL_S, own.POLL_S]


def test_the_app_is_told_the_site_and_its_policy_by_the_hospital(tmp_path):
    settings = {
        "server": {"address": "fed.example.org", "port": 9443},
        "site": {"name": "centre-a", "data": "/mnt/mri"},
        "policy": {"tasks": ["lesion-segmentation"], "max_rounds": 12, "differential_privacy": True},
    }
    (tmp_path / "node.toml").write_text(tomli_w.dumps(settings))
    assert own.node_config(SiteKit(tmp_path)) == {
        "site": "centre-a",
        "data-dir": "/mnt/mri",
        "tasks": "lesion-segmentation",
        "max-rounds": 12,
        "differential-privacy": True,
    }


def test_another_version_of_flower_is_refused(kit, monkeypatch):
    monkeypatch.setattr(own, "version", lambda _: "1.42.0")
    with pytest.raises(RunError, match=r"1\.42\.0.*1\.41\.0"):
        own.run_node(kit, 1)


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
