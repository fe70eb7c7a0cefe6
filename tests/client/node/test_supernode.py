"""A hospital's node: where its gate stands, what it tells the app, and what it writes when it is refused."""

import hashlib
from types import SimpleNamespace

import pytest
import tomli_w
from flwr.supercore.fab import Fab

from client.node import supernode as own
from client.node.site_kit import SiteKit
from shared.errors import RunError
from shared.runtime import flower_internals
from shared.runtime.audit_log import AuditLog, read

CONTENT = b"the bundle's bytes"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
RUN = SimpleNamespace(run_id=1)


@pytest.fixture
def kit(tmp_path):
    settings = {"server": {"address": "127.0.0.1", "port": 9443}, "site": {"name": "centre-a"}}
    (tmp_path / "node.toml").write_text(tomli_w.dumps(settings))
    return SiteKit(tmp_path)


class _connection:  # noqa: N801 - plays a function of Flower's
    def __init__(self, get_run):
        self._given = (5, lambda: None, None, get_run, lambda *_: Fab(DIGEST, CONTENT, {}), None, None, None)

    def __enter__(self):
        return self._given

    def __exit__(self, *_):
        return False


def test_the_gate_stands_before_flowers_own_functions(kit):
    with own._gated(lambda **_: _connection(lambda _: RUN), kit, AuditLog(kit.state / "audit.jsonl")) as connection:
        assert len(connection) == 8
        assert connection[0] == 5
        assert connection[3](1) is RUN
        assert not connection[4](DIGEST, 1).verifications
    assert [line["event"] for line in read(kit.state / "audit.jsonl")] == ["connected", "app-refused"]


def test_it_asks_for_a_message_until_there_is_one(monkeypatch):
    answers, slept = iter([*[None] * 12, "a message"]), []
    monkeypatch.setattr(own.time, "sleep", slept.append)
    assert own._receive_patiently(lambda: next(answers)) == "a message"
    assert (slept[0], max(slept)) == (0.5, 3.0)
    # So a message waits for a quarter of the time since the last one, or half a second, and never above three seconds.
    assert all(later <= max(0.5, 0.25 * sum(slept[:number]) + 0.5) for number, later in enumerate(slept))
    assert sum(slept) > 12 * 1.5


def test_the_app_is_told_by_the_hospital_where_data_and_policy_lie(tmp_path):
    settings = {
        "server": {"address": "fed.example.org", "port": 9443},
        "site": {"name": "centre-a", "data": "/mnt/mri"},
    }
    (tmp_path / "node.toml").write_text(tomli_w.dumps(settings))
    assert own.node_config(SiteKit(tmp_path)) == {
        "site": "centre-a",
        "data-dir": "/mnt/mri",
        "kit": str(tmp_path),
    }


def test_another_version_of_flower_is_refused(kit, monkeypatch):
    monkeypatch.setattr(flower_internals, "version", lambda _: "1.43.0")
    flower_internals.check_flower.cache_clear()
    with pytest.raises(RunError, match=r"1\.43\.0.*1\.42\.0"):
        own.run_node(kit, 1)
    flower_internals.check_flower.cache_clear()
