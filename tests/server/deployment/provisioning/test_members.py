"""A consortium over time: hospitals join, keys are renewed, members leave; a killed call leaves nothing half."""

import json
import shutil
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from client.node.admission import ask_to_join, take_in
from server.deployment.provisioning import kits, members
from server.deployment.provisioning.members import admit, provision, revoke, rotate
from server.deployment.server_kit import ServerKit
from shared.errors import ConfigError
from shared.runtime.audit_log import read, verify
from tests.hospitals import join


def snapshot(folder):
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(folder): path.read_bytes() for path in files}


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
    assert snapshot(own) == before


def changes(before, after):
    return {str(path) for path in before if after.get(path) != before[path]}


def test_a_site_added_to_the_file_is_listed_then_admitted_and_nobody_elses_files_change(own, tmp_path):
    before = snapshot(own)
    with pytest.raises(ConfigError, match="no 'centre-e' to admit; there are centre-a, centre-b"):
        join(own, "centre-e", folder=tmp_path / "early")
    listed = provision(add_site(own, "centre-e"), own, datetime.now(UTC))
    assert (set(listed.until), listed.listed) == ({"server"}, ("centre-e",))
    assert changes(before, snapshot(own)) == {"authority/audit.jsonl", "authority/consortium.toml"}
    assert issued(own, "centre-e") == []
    before = snapshot(own)
    join(own, "centre-e")
    after = snapshot(own)
    assert changes(before, after) == {"authority/audit.jsonl", "authority/issued.json", "server/certificates/crl.pem"}
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
    assert {path.stem for path in (own / "server/sites").iterdir()} == {"centre-a"}
    join(own, "centre-e")
    assert {path.stem for path in (own / "server/sites").iterdir()} == {"centre-a", "centre-e"}


def test_a_folder_with_something_else_is_left_alone(made, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="holds something else"):
        provision(made.parent / "toy.toml", tmp_path, datetime.now(UTC))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_call_that_dies_leaves_no_folder_and_no_key(made, tmp_path, monkeypatch):
    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(kits, "write_observer", die)
    with pytest.raises(KeyboardInterrupt):
        provision(made.parent / "toy.toml", tmp_path / "out", datetime.now(UTC))
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    provision(made.parent / "toy.toml", tmp_path / "out", datetime.now(UTC))


@pytest.mark.parametrize("place", ["add_site", "write_site_kit"])
def test_an_admission_that_died_is_finished_by_the_next_call_with_the_same_request(own, monkeypatch, place):
    def die(*_):
        raise KeyboardInterrupt

    old = serial(own / "centre-a/certificates/site.crt")
    path, request = ask_to_join(own / "centre-a", "")
    monkeypatch.setattr(kits, place, die)
    with pytest.raises(KeyboardInterrupt):
        admit(own, "centre-a", path, request.fingerprint, datetime.now(UTC))
    lost = int(issued(own, "centre-a")[1]["serial"], 16)
    monkeypatch.undo()
    made = admit(own, "centre-a", path, request.fingerprint, datetime.now(UTC))
    take_in(own / "centre-a", own / "centre-a.kit", made.fingerprint, datetime.now(UTC))
    assert revoked(own) == {old, lost}
    assert (
        serial(own / "centre-a/certificates/site.crt") == serial(own / "server/sites/centre-a.crt") not in {old, lost}
    )


def test_what_a_killed_call_left_of_a_draft_is_cleared_away(own):
    (own / ".server-draft-left").mkdir()  # what SIGKILL would leave
    join(own, "centre-a")
    assert not list(own.glob(".*-draft-*"))


def asked(folder, name):
    """A hospital's request: its file, and the fingerprint that is read out."""
    path, request = ask_to_join(folder, name)
    return path, request.fingerprint


def refused(own, name, path, told, match):
    """An admission that must change nothing."""
    before = snapshot(own)
    with pytest.raises(ConfigError, match=match):
        admit(own, name, path, told, datetime.now(UTC))
    assert snapshot(own) == before


def test_a_request_with_another_fingerprint_than_the_one_told_is_refused(own, tmp_path):
    """Somebody exchanged the file on its way: all is in order with it but the keys are his."""
    _, told = asked(tmp_path / "hospital", "centre-a")
    false, _ = asked(tmp_path / "stranger", "centre-a")
    refused(own, "centre-a", false, told, r"the fingerprint \d{5} .*, and you gave .*exchanged on its way")
    refused(own, "centre-a", false, "", "you gave none")


def test_a_request_of_another_name_is_refused_also_with_its_own_fingerprint(own, tmp_path):
    path, told = asked(tmp_path / "b", "centre-b")
    refused(own, "centre-a", path, told, "is the request of 'centre-b', not of 'centre-a': nothing was signed")
    path, told = asked(tmp_path / "x", "centre-x")
    refused(own, "centre-x", path, told, "no 'centre-x' to admit")
    refused(own, "server", path, told, "no 'server' to admit")


def test_a_request_is_taken_once(own, tmp_path):
    path, told = asked(tmp_path / "a", "centre-a")
    kept = tmp_path / "kept.request"
    kept.write_bytes(path.read_bytes())
    admit(own, "centre-a", path, told, datetime.now(UTC))
    refused(own, "centre-a", kept, told, r"the TLS key of this request was admitted before \(site centre-a, 20")
    # Nor when it was revoked, and not though its kit is gone then.
    revoke(own, "centre-a", datetime.now(UTC))
    refused(own, "centre-a", kept, told, "admitted before")
    # Nor after newer keys.
    join(own, "centre-a")
    refused(own, "centre-a", kept, told, "admitted before")


@pytest.mark.parametrize("reused", ["site.key", "node.key"])
@pytest.mark.parametrize("name", ["centre-a", "centre-b"])
def test_no_key_is_admitted_a_second_time_with_another_beside_it_or_under_another_name(own, tmp_path, reused, name):
    new = tmp_path / "hospital/keys/new"
    new.mkdir(parents=True)
    shutil.copy(own / "centre-a/keys" / reused, new / reused)
    path, told = asked(tmp_path / "hospital", name)
    what = {"site.key": "TLS", "node.key": "node"}[reused]
    refused(own, name, path, told, rf"the {what} key of this request was admitted before \(site centre-a")
    (own / "centre-a.kit").unlink()  # as if the first admission had not come so far
    before = snapshot(own)
    refused(own, name, path, told, "admitted before")
    assert "centre-a.kit" not in {str(path) for path in before}


def test_the_servers_own_key_is_no_hospitals(own, tmp_path):
    new = tmp_path / "hospital/keys/new"
    new.mkdir(parents=True)
    shutil.copy(own / "server/keys/server.key", new / "site.key")
    path, told = asked(tmp_path / "hospital", "centre-a")
    refused(own, "centre-a", path, told, r"admitted before \(server server")


def test_a_request_is_read_only_if_it_is_a_small_file(own, tmp_path):
    refused(own, "centre-a", tmp_path / "none", "", "there is no signing request")
    refused(own, "centre-a", tmp_path, "", "there is no signing request")
    (tmp_path / "large").write_bytes(bytes(10**6))
    refused(own, "centre-a", tmp_path / "large", "", "larger than 8192 bytes")


def test_new_keys_of_a_site_revoke_the_old_and_leave_what_the_hospital_wrote(own):
    kit, before = own / "centre-a", snapshot(own)
    old = serial(kit / "certificates/site.crt")
    (kit / "node.toml").write_text("# edited\n" + (kit / "node.toml").read_text())
    (kit / "approved.toml").write_text("")
    join(own, "centre-a")
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


def test_a_revoked_site_is_gone_from_the_server_until_it_joins_again(own):
    old = serial(own / "centre-a/certificates/site.crt")
    revoke(own, "centre-a", datetime.now(UTC))
    assert {path.stem for path in (own / "server/sites").iterdir()} == {"centre-b"}
    assert revoked(own) == {old}
    assert not (own / "centre-a.kit").exists()
    with pytest.raises(ConfigError, match="revoked already"):
        revoke(own, "centre-a", datetime.now(UTC))
    join(own, "centre-a")
    assert serial(own / "server/sites/centre-a.crt") != old
    assert revoked(own) == {old}


def test_the_list_of_revoked_grows_and_is_signed_by_the_authority(own):
    numbers, now = [], datetime.now(UTC)
    ca = x509.load_pem_x509_certificate((own / "authority/ca.crt").read_bytes())
    for change in (lambda: join(own, "centre-a"), lambda: join(own, "centre-b"), lambda: rotate(own, "server", now)):
        change()
        crl = x509.load_pem_x509_crl((own / "server/certificates/crl.pem").read_bytes())
        assert crl.is_signature_valid(ca.public_key())
        numbers.append(crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number)
    assert numbers == sorted(set(numbers))
    assert len(revoked(own)) == 3


@pytest.mark.parametrize(
    ("change", "name", "message"),
    [
        (rotate, "centre-x", "no 'centre-x' to rotate; there are server, observer"),
        (rotate, "centre-a", "centre-a makes its own keys: call `fedbreast join` there, then `fedbreast admit` here"),
        (revoke, "centre-x", "no 'centre-x' to revoke; there are centre-a, centre-b"),
        (revoke, "server", "cannot be without its server: call rotate"),
        (rotate, "authority", "no 'authority'"),
    ],
)
def test_a_change_to_nobody_is_refused(own, change, name, message):
    before = snapshot(own)
    with pytest.raises(ConfigError, match=message):
        change(own, name, datetime.now(UTC))
    assert snapshot(own) == before


def test_a_kit_is_no_consortium(made):
    with pytest.raises(ConfigError, match=r"no authority/issued\.json"):
        rotate(made / "server", "server", datetime.now(UTC))


def test_what_the_coordinator_did_stands_in_the_authoritys_audit_log(own):
    rotate(own, "observer", datetime.now(UTC))
    revoke(own, "centre-b", datetime.now(UTC))
    provision(add_site(own, "centre-e"), own, datetime.now(UTC))
    assert [(item["event"], item["name"]) for item in read(own / members.AUDIT)] == [
        ("provisioned", "toy"),
        ("admitted", "centre-a"),
        ("admitted", "centre-b"),
        ("rotated", "observer"),
        ("revoked", "centre-b"),
        ("listed", "centre-e"),
    ]
    admitted = next(item for item in read(own / members.AUDIT) if item["event"] == "admitted")
    installed = [item for item in read(own / "centre-a/state/audit.jsonl") if item["event"] == "kit-installed"]
    assert [item["request"] for item in installed] == [admitted["request"]]  # both sides have it in writing
    assert verify(own / members.AUDIT).broken_at is None
