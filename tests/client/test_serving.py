"""What keeps a hospital's node running: what it refuses to start with, and the reason it gives when a node ended."""

import shutil
from datetime import UTC, datetime, timedelta

import pytest

from client import serving
from client.kit import SiteKit
from client.serving import _START, _alone, _Events, _reason, _shorten, check_kit
from server.provisioning.changes import provision
from shared.audit import AuditLog
from shared.errors import ConfigError, RunError, SiteError

TOML = 'name = "toy"\n[server]\naddress = "127.0.0.1"\n[[sites]]\nname = "centre-a"\n[[sites]]\nname = "centre-b"\n'
NOW = datetime.now(UTC)


def made(folder, now=NOW):
    """A kit as the coordinator sends it, its data beside it."""
    (folder / "toy.toml").write_text(TOML)
    provision(folder / "toy.toml", folder / "out", now)
    kit = folder / "out" / "centre-a"
    (kit / "data").mkdir()
    (kit / "data" / "site.toml").write_text('[site]\nname = "centre-a"\n')
    (kit / "data" / "cases.csv").write_text("patient\n")
    return kit


def test_a_kit_as_it_was_sent_is_good(tmp_path):
    check_kit(SiteKit(made(tmp_path)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda kit: (kit / "keys/site.key").chmod(0o644), "site.key can be read by others: chmod 600"),
        (lambda kit: (kit / "keys/node.key").chmod(0o660), "node.key can be read by others: chmod 600"),
        (lambda kit: (kit / "keys/node.key").unlink(), "node.key is missing"),
        (lambda kit: (kit / "certificates/ca.crt").unlink(), "ca.crt is missing"),
        (lambda kit: (kit / "certificates/ca.crt").write_text("x"), "damaged"),
        (lambda kit: (kit / "certificates/site.crt").write_text("x"), "damaged"),
        (lambda kit: (kit / "keys/node.key").write_text("x"), "damaged"),
        (lambda kit: shutil.copy(kit.parent / "centre-b/keys/site.key", kit / "keys/site.key"), "no pair"),
    ],
)
def test_a_kit_that_cannot_be_used_is_refused_with_what_to_do(tmp_path, change, words):
    kit = made(tmp_path)
    change(kit)
    with pytest.raises(ConfigError, match=words):
        check_kit(SiteKit(kit))


def test_an_expired_certificate_is_refused_with_its_day(tmp_path):
    kit = made(tmp_path, NOW - timedelta(days=366))
    with pytest.raises(ConfigError, match=f"expired on {NOW - timedelta(days=1):%Y-%m-%d}.*rotate"):
        check_kit(SiteKit(kit))


def test_anothers_data_and_no_data_are_refused(tmp_path):
    kit = made(tmp_path)
    (kit / "data" / "site.toml").write_text('[site]\nname = "centre-b"\n')
    with pytest.raises(ConfigError, match="'centre-b', this kit is 'centre-a'"):
        check_kit(SiteKit(kit))
    shutil.rmtree(kit / "data")
    with pytest.raises(SiteError, match="does not exist"):
        check_kit(SiteKit(kit))


def test_a_kit_is_served_once_at_a_time(tmp_path):
    kit = SiteKit(made(tmp_path))
    with _alone(kit), pytest.raises(RunError, match="served by another process already"), _alone(kit):
        pass
    with _alone(kit):
        pass


# What Flower and our client write, as in `tests/server/serving/test_superlink.py`, where each really happens.
@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("the server refuses: 412 flower\n[code: 2004] Failed to activate SuperNode.", "another node is connected"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed", "the server's certificate is not"),
        ("the server refuses: 401 door", "the server refuses this site's certificate"),
        ("the server refuses: 401 flower clocks differ by 310 s", "clock"),
        ("the server refuses: 401 flower", "does not know this node any more"),
        ("SuperNode terminated gracefully.", "the connection was lost"),
        ("Invalid key already 401 403 400 Bad Request", "the connection was lost"),
    ],
)
def test_the_reason_is_read_from_what_the_last_node_wrote(tmp_path, lines, reason):
    log = tmp_path / "node.log"
    log.write_text(f"{_START}\nthe server refuses: 403 door\n{_START}\nINFO: started\n{lines}\nINFO: ended\n")
    assert reason in _reason(log)


def test_a_long_log_keeps_its_end(tmp_path):
    log = tmp_path / "node.log"
    log.write_text("".join(f"line {number} {'x' * 300}\n" for number in range(5000)))
    _shorten(log)
    lines = log.read_text().splitlines()
    assert len(lines) == serving._LOG_LINES
    assert lines[-1].startswith("line 4999 ")


def test_what_others_write_in_the_log_is_told_once_and_whole(tmp_path):
    audit, told = AuditLog(tmp_path / "audit.jsonl"), []
    audit.record("before", site="centre-a")
    events = _Events(audit.path, lambda event, facts: told.append((event, facts)))
    events.tell()
    audit.record("connected", site="centre-a", node="5")
    with audit.path.open("ab") as stream:
        stream.write(b'{"half')  # of a process that is writing just now
    events.tell()
    events.tell()
    assert told == [("connected", {"site": "centre-a", "node": "5"})]
