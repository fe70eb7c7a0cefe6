"""The ledger: what was signed stands there first, and the list of revoked certificates follows from it."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from server.deployment.provisioning.certificate_ledger import (
    LEDGER_FILE,
    REVOKED_FILE,
    Ledger,
    ledger_entry,
    read_ledger,
)
from server.deployment.provisioning.consortium_file import load_consortium
from shared.errors import ConfigError
from shared.runtime.private_keys import new_key


@pytest.fixture
def consortium(own):
    return load_consortium(own / "authority" / "consortium.toml")


def revoked_serials(root):
    return {item.serial_number for item in x509.load_pem_x509_crl((root / REVOKED_FILE).read_bytes())}


def test_a_replaced_certificate_is_revoked_and_the_new_one_is_the_current_one(own, consortium):
    now = datetime.now(UTC)
    ledger = Ledger.read(own, now)
    before = ledger.current("site", "centre-a")
    key, node_key = new_key().public_key(), new_key().public_key()
    assert (ledger.holder(key), ledger.holder(node_key)) == (None, None)
    certificate = ledger.replace("site", "centre-a", key, consortium, node_key)
    after = read_ledger(own)
    assert next(item for item in after if item.serial == before.serial).revoked == ledger.now
    assert Ledger.read(own, now).current("site", "centre-a") == ledger_entry(certificate, node_key) == after[-1]
    assert revoked_serials(own) == {int(before.serial, 16)}
    ledger.withdraw("site", "centre-a")
    assert ledger.current("site", "centre-a") is None
    for known in (key, node_key):  # a key is known for ever
        assert Ledger.read(own, now).holder(known).serial == after[-1].serial
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
