"""A hospital joins: its keys are made and stay here, and only the answer to its own request is installed."""

import json
import shutil
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives import serialization

from client.node import admission
from client.node.admission import ask_to_join, take_in
from client.node.site_kit import SiteKit
from server.deployment.provisioning.certificate_authority import issue, load_authority, pem
from server.deployment.provisioning.members import admit, provision
from shared.errors import ConfigError
from shared.runtime.private_keys import new_key
from shared.runtime.signed_kit import AUTHORITY, CERTIFICATE, sign_kit
from shared.runtime.signing_request import read_request
from tests.hospitals import join

TOML = (
    'name = "toy"\n[server]\naddress = "fed.example.org"\n[[sites]]\nname = "centre-a"\n[[sites]]\nname = "centre-b"\n'
)
NOW = datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture
def root(tmp_path):
    """The coordinator's folder."""
    (tmp_path / "toy.toml").write_text(TOML)
    provision(tmp_path / "toy.toml", tmp_path / "coordinator", NOW)
    return tmp_path / "coordinator"


@pytest.fixture
def folder(tmp_path):
    """The hospital's."""
    return tmp_path / "hospital"


def answered(root, folder, name="centre-a"):
    """The signed kit that answers the hospital's request, and the consortium's fingerprint."""
    path, request = ask_to_join(folder, name)
    return root / f"{name}.kit", admit(root, name, path, request.fingerprint, NOW).fingerprint


def snapshot(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(folder, kit, told, match, now=NOW):
    """An installation that must change nothing."""
    before = snapshot(folder)
    with pytest.raises(ConfigError, match=match):
        take_in(folder, kit, told, now)
    assert snapshot(folder) == before


def test_keys_are_made_here_for_their_owner_alone_and_the_request_holds_none(folder):
    path, request = ask_to_join(folder, "centre-a")
    keys = sorted((folder / "keys/new").iterdir())
    assert [key.name for key in keys] == ["node.key", "site.key"]
    for key in keys:
        assert key.stat().st_mode & 0o777 == 0o600
        assert key.parent.stat().st_mode & 0o777 == 0o700
    node = serialization.load_ssh_private_key(keys[0].read_bytes(), None)
    site = serialization.load_pem_private_key(keys[1].read_bytes(), None)
    assert (request.site_key, request.node_key) == (site.public_key(), node.public_key())
    assert read_request(path.read_bytes()) == request
    for secret in (site.private_numbers().private_value, node.private_numbers().private_value):
        assert secret.to_bytes(48, "big") not in path.read_bytes()
    holders = {
        str(file.relative_to(folder))
        for file in folder.rglob("*")
        if file.is_file() and b"PRIVATE" in file.read_bytes()
    }
    assert holders == {"keys/new/site.key", "keys/new/node.key"}


def test_git_never_takes_a_hospitals_folder_into_a_repository(folder):
    ask_to_join(folder, "centre-a")
    subprocess.run(["git", "init", "--quiet", folder.parent], check=True)
    seen = subprocess.run(
        ["git", "-C", folder.parent, "status", "--porcelain", "--untracked-files=all"], capture_output=True, check=True
    )
    assert seen.stdout == b""


def test_asking_again_is_the_same_request_and_writes_a_lost_file_anew(folder):
    path, request = ask_to_join(folder, "centre-a")
    path.unlink()
    again, same = ask_to_join(folder, "centre-a")
    assert (again, same.fingerprint) == (path, request.fingerprint)
    assert read_request(path.read_bytes()) == request


def test_a_kill_between_the_two_keys_keeps_the_first(folder, monkeypatch):
    write = admission.write_private

    def die_at_the_second(path, content):
        if path.name == "node.key":
            raise KeyboardInterrupt
        write(path, content)

    monkeypatch.setattr(admission, "write_private", die_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        ask_to_join(folder, "centre-a")
    first = (folder / "keys/new/site.key").read_bytes()
    monkeypatch.undo()
    ask_to_join(folder, "centre-a")
    assert (folder / "keys/new/site.key").read_bytes() == first


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("", "holds no kit yet: give --name"),
        ("Centre A", "cannot be a site's name"),
        ("../x", "cannot be a site's name"),
    ],
)
def test_without_a_good_name_no_key_is_made(folder, name, match):
    with pytest.raises(ConfigError, match=match):
        ask_to_join(folder, name)
    assert not folder.exists()


def test_a_damaged_key_that_waits_is_named_with_the_remedy(folder):
    ask_to_join(folder, "centre-a")
    (folder / "keys/new/site.key").write_text("x")
    with pytest.raises(ConfigError, match=r"keys/new is damaged: remove .*keys/new and call `fedbreast join` again"):
        ask_to_join(folder, "centre-a")


def test_the_answer_makes_a_whole_kit_and_nothing_waits_any_more(root, folder):
    kit, told = answered(root, folder)
    waiting = {key.name: key.read_bytes() for key in (folder / "keys/new").iterdir()}
    assert take_in(folder, kit, told, NOW).site == "centre-a"
    site = SiteKit(folder)
    site.check(private=(site.node_key,))
    assert (site.name, site.server) == ("centre-a", "fed.example.org:9443")
    assert {key.name: key.read_bytes() for key in (folder / "keys").iterdir()} == waiting
    for key in (folder / "keys").iterdir():
        assert key.stat().st_mode & 0o777 == 0o600
    assert (folder / "state").is_dir()
    assert not list(folder.glob("*.request"))
    refused(folder, kit, told, "no keys wait in .*: this one is installed already")


def test_a_kit_from_somebody_else_is_refused_by_the_fingerprint_told(root, folder, tmp_path):
    """A stranger caught the request, admitted it in a consortium of his own, and answers instead of the coordinator."""
    _, told = answered(root, folder)
    provision(tmp_path / "toy.toml", tmp_path / "stranger", NOW)
    kit, his = answered(tmp_path / "stranger", folder)
    refused(folder, kit, told, "the consortium that signed this kit has the fingerprint")
    refused(folder, kit, "", "you gave none")
    take_in(folder, kit, his, NOW)  # all else is in order with it


def test_a_kit_that_was_changed_on_its_way_is_refused(root, folder):
    kit, told = answered(root, folder)
    said = json.loads(kit.read_text())
    said["files"]["node.toml"] = said["files"]["node.toml"].replace("fed.example.org", "evil.example.org")
    kit.write_text(json.dumps(said))
    refused(folder, kit, told, "was changed after the consortium's authority had signed it")


def test_a_kit_that_answers_another_request_is_refused(root, folder, tmp_path):
    old, told = answered(root, folder)
    kept = shutil.copy(old, tmp_path / "old.kit")
    shutil.rmtree(folder / "keys")  # its keys are lost, so it asks with new ones
    ask_to_join(folder, "centre-a")
    refused(folder, kept, told, "answers the request .* of centre-a; in .*hospital waits")
    other, _ = answered(root, tmp_path / "b", "centre-b")
    refused(folder, other, told, "answers the request .* of centre-b")


def test_an_old_kit_does_not_come_back_when_keys_are_renewed(root, folder, tmp_path):
    join(root, "centre-a", NOW, folder)
    first = shutil.copy(root / "centre-a.kit", tmp_path / "first.kit")
    _, told = answered(root, folder)
    refused(folder, first, told, "answers the request")


def test_a_kit_is_not_installed_over_another_sites(root, folder):
    join(root, "centre-b", NOW, folder)
    with pytest.raises(ConfigError, match="is the kit of 'centre-b', not of 'centre-a'"):
        ask_to_join(folder, "centre-a")
    ask_to_join(folder, "")
    node = folder / "node.toml"
    kit, told = answered(root, folder, "centre-b")
    node.write_text(node.read_text().replace("centre-b", "centre-a"))
    refused(folder, kit, told, "is the kit of 'centre-a' and .*kit that of 'centre-b'")


def of_another_key(authority, _):
    return issue(authority, "site", "centre-a", new_key().public_key(), 10, NOW)


def of_another_site(authority, key):
    return issue(authority, "site", "centre-b", key, 10, NOW)


def of_another_role(authority, key):
    return issue(authority, "observer", "centre-a", key, 10, NOW)


def of_another_authority(authority, key):
    del authority
    from server.deployment.provisioning.certificate_authority import make_authority

    return issue(make_authority("toy", 10, NOW), "site", "centre-a", key, 10, NOW)


@pytest.mark.parametrize("made", [of_another_key, of_another_site, of_another_role, of_another_authority])
def test_a_certificate_that_would_not_serve_is_refused_though_the_kit_is_signed(root, folder, made):
    kit, told = answered(root, folder)
    _, request = ask_to_join(folder, "centre-a")
    authority = load_authority(root / "authority")
    files = json.loads(kit.read_text())["files"]
    files |= {
        CERTIFICATE: pem(made(authority, request.site_key)).decode(),
        AUTHORITY: pem(authority.certificate).decode(),
    }
    kit.write_bytes(sign_kit("centre-a", request.fingerprint, files, authority.key))
    refused(folder, kit, told, "the kit's certificate is .*: tell the coordinator")


@pytest.mark.parametrize("days", [-2, 366])
def test_a_certificate_that_is_not_valid_now_is_refused_with_its_days(root, folder, days):
    kit, told = answered(root, folder)
    refused(
        folder,
        kit,
        told,
        r"valid from 2099-12-31 to 2101-01-01: set this machine's clock",
        NOW + timedelta(days=days),
    )


def test_new_keys_leave_the_old_in_use_until_the_answer_and_keep_what_the_hospital_wrote(root, folder):
    join(root, "centre-a", NOW, folder)
    before = snapshot(folder)
    for name in ("node.toml", "compose.yaml"):
        (folder / name).write_text("# edited\n" + (folder / name).read_text())
    (folder / "approved.toml").write_text("")
    (folder / "README.md").write_text("an old page")
    kit, told = answered(root, folder, "centre-a")
    assert (folder / "keys/site.key").read_bytes() == before[(folder / "keys/site.key").relative_to(folder)]
    take_in(folder, kit, told, NOW)
    after = snapshot(folder)
    for name in ("keys/site.key", "keys/node.key", "certificates/site.crt"):
        assert after[(folder / name).relative_to(folder)] != before[(folder / name).relative_to(folder)]
    for name in ("node.toml", "compose.yaml"):
        assert (folder / name).read_text().startswith("# edited\n")
    assert (folder / "approved.toml").exists()
    assert "joining toy" in (folder / "README.md").read_text()
    SiteKit(folder).check()


@pytest.mark.parametrize("place", range(8))
def test_an_installation_that_is_killed_anywhere_is_finished_by_the_next_call(root, folder, monkeypatch, place):
    join(root, "centre-a", NOW, folder)  # an earlier kit, so that halves of both could mix
    kit, told = answered(root, folder)
    waiting = {key.name: key.read_bytes() for key in (folder / "keys/new").iterdir()}
    calls, remove = [], shutil.rmtree

    def dying(function):
        def call(*arguments, **options):
            calls.append(function)
            if len(calls) == place + 1:
                if function is remove and arguments[0].is_dir():  # it had begun
                    min(arguments[0].iterdir()).unlink()
                raise KeyboardInterrupt
            return function(*arguments, **options)

        return call

    for name in ("write_atomically", "write_private"):
        monkeypatch.setattr(admission, name, dying(getattr(admission, name)))
    monkeypatch.setattr(admission.shutil, "rmtree", dying(remove))
    monkeypatch.setattr(admission.AuditLog, "record", dying(admission.AuditLog.record))
    with pytest.raises(KeyboardInterrupt):
        take_in(folder, kit, told, NOW)
    monkeypatch.undo()
    if (folder / "keys/new").exists():
        take_in(folder, kit, told, NOW)
    assert {key.name: key.read_bytes() for key in (folder / "keys").glob("*.key")} == waiting
    SiteKit(folder).check()
    # Nothing that is left is ever taken for new keys.
    _, request = ask_to_join(folder, "")
    assert not {key.read_bytes() for key in (folder / "keys/new").iterdir()} & set(waiting.values())
    kit, told = answered(root, folder)
    take_in(folder, kit, told, NOW)
    assert {path.name for path in (folder / "keys").iterdir()} == {"site.key", "node.key"}
    assert request.name == "centre-a"
