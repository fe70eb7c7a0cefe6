"""A consortium over time: hospitals join, keys are renewed, members leave; a killed call leaves nothing half."""

import json
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from server.deployment.provisioning import kits, members
from server.deployment.provisioning.members import provision, revoke, rotate
from server.deployment.server_kit import ServerKit
from shared.errors import ConfigError
from shared.runtime.audit_log import read, verify


def snapshot(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def revoked(root):
    crl = x509.load_pem_x509_crl((root / "server/certificates/crl.pem").read_bytes())
    return {item.serial_number for item in crl}


def serial(path):
    return x509.load_pem_x509_certificate(path.read_bytes()).serial_number


def issued(root, name):
    return [item for item in json.loads((root / "authority/issued.json").read_text()) if item["name"] == name]


def add_site(root, name):
    file = root.parent / "toy.toml"
    file.write_text(file.read_text() + f'[[sites]]\nname = "{name}"\n')
    return file


def test_a_second_call_is_refused_and_changes_nothing(own):
    before = snapshot(own)
    with pytest.raises(ConfigError, match="made from this file already"):
        provision(own.parent / "toy.toml", own, datetime.now(UTC))
    assert {path: text for path, text in snapshot(own).items() if path.name != ".lock"} == before


def test_a_site_added_to_the_file_gets_its_kit_and_nobody_elses_changes(own):
    before = snapshot(own)
    made = provision(add_site(own, "centre-e"), own, datetime.now(UTC))
    assert (set(made.until), made.first) == ({"centre-e", "server"}, False)
    after = snapshot(own)
    changed = {str(path) for path in before if after[path] != before[path]}
    assert changed == {
        "authority/audit.jsonl",
        "authority/consortium.toml",
        "authority/issued.json",
        "server/certificates/crl.pem",
    }
    public = serialization.load_ssh_public_key((own / "server/sites/centre-e.pub").read_bytes())
    private = serialization.load_ssh_private_key((own / "centre-e/keys/node.key").read_bytes(), None)
    assert public == private.public_key()
    assert serial(own / "server/sites/centre-e.crt") == serial(own / "centre-e/certificates/site.crt")
    with pytest.raises(ConfigError, match="already"):
        provision(own.parent / "toy.toml", own, datetime.now(UTC))


def test_the_servers_kit_has_the_cases_that_were_agreed_also_when_they_change(own):
    kit = ServerKit(own / "server")
    assert kit.most_cases() == {}
    file = own.parent / "toy.toml"
    file.write_text(file.read_text().replace('name = "centre-b"', 'name = "centre-b"\nmost_cases = 80'))
    before = snapshot(own / "centre-b")
    provision(file, own, datetime.now(UTC))
    assert kit.most_cases() == {"centre-b": 80}
    assert snapshot(own / "centre-b") == before
    with pytest.raises(ConfigError, match="made from this file already"):
        provision(file, own, datetime.now(UTC))
    file.write_text(file.read_text().replace("most_cases = 80", "most_cases = 90"))
    provision(add_site(own, "centre-e"), own, datetime.now(UTC))
    assert kit.most_cases() == {"centre-b": 90}
    (own / "server/most_cases.toml").unlink()
    with pytest.raises(ConfigError, match=r"cannot read the server's kit .*most_cases\.toml"):
        kit.most_cases()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("fed.example.org", "fed.example.com", r"'server\.address' from 'fed\.example\.org' to 'fed\.example\.com'"),
        ("[server]", "[server]\nport = 9500", r"'server\.port' from 9443 to 9500"),
        ('[[sites]]\nname = "centre-b"\n', "", r"no longer lists centre-b.*fedbreast revoke"),
    ],
)
def test_any_other_change_is_refused_even_beside_a_new_site(own, old, new, message):
    file = own.parent / "toy.toml"
    file.write_text(file.read_text().replace(old, new))
    add_site(own, "centre-e")
    with pytest.raises(ConfigError, match=message):
        provision(file, own, datetime.now(UTC))
    assert not (own / "centre-e").exists()


def test_a_site_that_was_revoked_may_leave_the_file(own):
    revoke(own, "centre-b", datetime.now(UTC))
    file = add_site(own, "centre-e")
    file.write_text(file.read_text().replace('[[sites]]\nname = "centre-b"\n', ""))
    provision(file, own, datetime.now(UTC))
    assert {path.stem for path in (own / "server/sites").iterdir()} == {"centre-a", "centre-e"}


def test_a_folder_with_something_else_is_left_alone(made, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="holds something else"):
        provision(made.parent / "toy.toml", tmp_path, datetime.now(UTC))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_call_that_dies_leaves_no_folder_and_no_key(made, tmp_path, monkeypatch):
    write, calls = kits.write_site_kit, []

    def die_at_the_second(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        write(*arguments)

    monkeypatch.setattr(kits, "write_site_kit", die_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        provision(made.parent / "toy.toml", tmp_path / "out", datetime.now(UTC))
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    provision(made.parent / "toy.toml", tmp_path / "out", datetime.now(UTC))


@pytest.mark.parametrize("place", ["add_site", "write_site_kit"])
def test_a_site_whose_adding_died_is_added_by_the_next_call_and_the_lost_certificate_is_revoked(
    own, monkeypatch, place
):
    def die(*_):
        raise KeyboardInterrupt

    file = add_site(own, "centre-e")
    monkeypatch.setattr(kits, place, die)
    with pytest.raises(KeyboardInterrupt):
        provision(file, own, datetime.now(UTC))
    lost = int(issued(own, "centre-e")[0]["serial"], 16)
    assert not (own / "centre-e").exists()
    monkeypatch.undo()
    (own / ".centre-e-draft-left").mkdir()  # what SIGKILL would leave
    provision(file, own, datetime.now(UTC))
    assert revoked(own) == {lost}
    assert serial(own / "centre-e/certificates/site.crt") == serial(own / "server/sites/centre-e.crt") != lost
    assert not list(own.glob(".*-draft-*"))


def test_rotating_a_site_renews_both_keys_revokes_the_old_and_keeps_what_the_hospital_wrote(own):
    kit, before = own / "centre-a", snapshot(own)
    old = serial(kit / "certificates/site.crt")
    (kit / "node.toml").write_text("# edited\n" + (kit / "node.toml").read_text())
    (kit / "approved.toml").write_text("")
    made = rotate(own, "centre-a", datetime.now(UTC))
    assert set(made.until) == {"centre-a", "server"}
    assert revoked(own) == {old}
    assert [item["revoked"] is None for item in issued(own, "centre-a")] == [False, True]
    after = snapshot(own)
    for name in ("keys/site.key", "keys/node.key", "certificates/site.crt"):
        path = (kit / name).relative_to(own)
        assert after[path] != before[path]
        assert name.endswith("crt") or (kit / name).stat().st_mode & 0o777 == 0o600
    assert (kit / "node.toml").read_text().startswith("# edited\n")
    assert (kit / "approved.toml").exists()
    public = serialization.load_ssh_public_key((own / "server/sites/centre-a.pub").read_bytes())
    assert public == serialization.load_ssh_private_key((kit / "keys/node.key").read_bytes(), None).public_key()
    assert {path for path in before if path.parts[0] == "centre-b" and after[path] != before[path]} == set()


@pytest.mark.parametrize("name", ["server", "observer"])
def test_rotating_server_or_observer_revokes_the_old_and_touches_no_hospital(own, name):
    before = snapshot(own)
    certificate = own / "server/certificates" / f"{name}.crt"
    old = serial(certificate)
    rotate(own, name, datetime.now(UTC))
    assert revoked(own) == {old}
    assert serial(certificate) != old
    assert (own / "observer/observer.crt").read_bytes() == (own / "server/certificates/observer.crt").read_bytes()
    assert (own / "observer/observer.key").read_bytes() == (own / "server/keys/observer.key").read_bytes()
    after = snapshot(own)
    assert not [path for path in before if path.parts[0].startswith("centre") and after[path] != before[path]]


def test_a_revoked_site_is_gone_from_the_server_until_it_is_rotated_in_again(own):
    old = serial(own / "centre-a/certificates/site.crt")
    revoke(own, "centre-a", datetime.now(UTC))
    assert {path.stem for path in (own / "server/sites").iterdir()} == {"centre-b"}
    assert revoked(own) == {old}
    with pytest.raises(ConfigError, match="revoked already"):
        revoke(own, "centre-a", datetime.now(UTC))
    rotate(own, "centre-a", datetime.now(UTC))
    assert serial(own / "server/sites/centre-a.crt") != old
    assert revoked(own) == {old}


def test_the_list_of_revoked_grows_and_is_signed_by_the_authority(own):
    numbers = []
    ca = x509.load_pem_x509_certificate((own / "authority/ca.crt").read_bytes())
    for name in ("centre-a", "centre-b", "server"):
        rotate(own, name, datetime.now(UTC))
        crl = x509.load_pem_x509_crl((own / "server/certificates/crl.pem").read_bytes())
        assert crl.is_signature_valid(ca.public_key())
        numbers.append(crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number)
    assert numbers == sorted(set(numbers))
    assert len(revoked(own)) == 3


@pytest.mark.parametrize(
    ("change", "name", "message"),
    [
        (rotate, "centre-x", "no 'centre-x' to rotate; there are centre-a, centre-b, server, observer"),
        (revoke, "centre-x", "no 'centre-x' to revoke; there are centre-a, centre-b"),
        (revoke, "server", "cannot be without its server: call rotate"),
        (rotate, "authority", "no 'authority'"),
    ],
)
def test_a_change_to_nobody_is_refused(own, change, name, message):
    before = snapshot(own)
    with pytest.raises(ConfigError, match=message):
        change(own, name, datetime.now(UTC))
    assert {path: text for path, text in snapshot(own).items() if path.name != ".lock"} == before


def test_a_kit_is_no_consortium(made):
    with pytest.raises(ConfigError, match=r"no authority/issued\.json"):
        rotate(made / "server", "centre-a", datetime.now(UTC))


def test_what_the_coordinator_did_stands_in_the_authoritys_audit_log(own):
    rotate(own, "centre-a", datetime.now(UTC))
    revoke(own, "centre-b", datetime.now(UTC))
    assert [(item["event"], item["name"]) for item in read(own / members.AUDIT)] == [
        ("provisioned", "toy"),
        ("rotated", "centre-a"),
        ("revoked", "centre-b"),
    ]
    assert verify(own / members.AUDIT).broken_at is None
