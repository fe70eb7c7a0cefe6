"""The ledger: what was signed stands there first, and the list of revoked certificates follows from it."""

import json
import stat
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from server.deployment.provisioning.certificate_authority import new_key
from server.deployment.provisioning.certificate_ledger import (
    LEDGER_FILE,
    REVOKED_FILE,
    Ledger,
    ledger_entry,
    read_ledger,
    write_private,
)
from server.deployment.provisioning.consortium_file import load_consortium
from shared.errors import ConfigError


@pytest.fixture
def consortium(own):
    return load_consortium(own / "authority" / "consortium.toml")


def revoked_serials(root):
    return {item.serial_number for item in x509.load_pem_x509_crl((root / REVOKED_FILE).read_bytes())}


def test_a_replaced_certificate_is_revoked_and_the_new_one_is_the_current_one(own, consortium):
    now = datetime.now(UTC)
    ledger = Ledger.read(own, now)
    before = ledger.current("site", "centre-a")
    certificate = ledger.replace("site", "centre-a", new_key().public_key(), consortium)
    after = read_ledger(own)
    assert next(item for item in after if item.serial == before.serial).revoked == ledger.now
    assert Ledger.read(own, now).current("site", "centre-a") == ledger_entry(certificate) == after[-1]
    assert revoked_serials(own) == {int(before.serial, 16)}
    ledger.withdraw("site", "centre-a")
    assert ledger.current("site", "centre-a") is None
    assert revoked_serials(own) == {int(before.serial, 16), certificate.serial_number}


def test_an_entry_says_what_the_certificate_says(own):
    certificate = x509.load_pem_x509_certificate((own / "centre-a/certificates/site.crt").read_bytes())
    entry = ledger_entry(certificate)
    assert (entry.role, entry.name) == ("site", "centre-a")
    assert int(entry.serial, 16) == certificate.serial_number
    assert entry.fingerprint == certificate.fingerprint(hashes.SHA256()).hex()
    assert (entry.since, entry.until) == (certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    assert entry.days_left(entry.until - timedelta(days=2, seconds=1)) == 2
    assert entry.days_left(entry.until + timedelta(seconds=1)) == -1
    assert {"from", "until", "revoked"} <= json.loads((own / LEDGER_FILE).read_text())[0].keys()


def test_a_kill_between_ledger_and_list_is_repaired_by_the_next_call(own, consortium):
    stale = (own / REVOKED_FILE).read_bytes()
    ledger = Ledger.read(own, datetime.now(UTC))
    serial = int(ledger.current("site", "centre-a").serial, 16)
    ledger.withdraw("site", "centre-a")
    (own / REVOKED_FILE).write_bytes(stale)  # as if killed before it was written
    Ledger.read(own, datetime.now(UTC)).replace("observer", "observer", new_key().public_key(), consortium)
    assert serial in revoked_serials(own)


def test_a_folder_without_a_ledger_and_a_damaged_one_are_refused(own, tmp_path):
    with pytest.raises(ConfigError, match=r"has no authority/issued\.json: name the folder"):
        read_ledger(tmp_path)
    (own / LEDGER_FILE).write_text("[{}]")
    with pytest.raises(ConfigError, match="is damaged: restore your copy"):
        read_ledger(own)


def test_a_private_key_is_its_owners_alone_also_when_it_replaces_an_open_one(tmp_path):
    path = tmp_path / "keys" / "site.key"
    path.parent.mkdir(mode=0o755)
    path.touch(mode=0o644)
    write_private(path, b"key")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
