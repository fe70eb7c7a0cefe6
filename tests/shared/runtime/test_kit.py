"""What server's and site's kits have in common, on kits as `fedbreast join` leaves them."""

import shutil
from datetime import UTC, datetime, timedelta

import pytest

from shared.config.sections import Section
from shared.errors import ConfigError, RunError
from shared.runtime.kit import Kit, Port
from tests.hospitals import make_consortium_with_hospitals

TOML = 'name = "toy"\n[server]\naddress = "127.0.0.1"\n[[sites]]\nname = "centre-a"\n[[sites]]\nname = "centre-b"\n'


class Member(Kit):
    role = "site"
    file = "member.toml"
    remedy = "ask for another"


class MemberFile(Section):
    port: Port


def provisioned(folder, now=None):
    (folder / "toy.toml").write_text(TOML)
    make_consortium_with_hospitals(folder / "toy.toml", folder / "out", now)
    return Member(folder / "out" / "centre-a")


def test_a_kit_as_it_was_written_is_good(tmp_path):
    kit = provisioned(tmp_path)
    kit.check(private=(kit.folder / "keys/node.key",), public=(kit.folder / "node.toml",))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda kit: kit.certificate[1].chmod(0o640), "can be read by others: chmod 600"),
        (lambda kit: kit.certificate[0].unlink(), "site.crt is missing: put it back .* or ask for another"),
        (lambda kit: (kit.folder / "keys/node.key").chmod(0o604), "node.key can be read by others"),
        (lambda kit: (kit.folder / "node.toml").unlink(), "node.toml is missing"),
        (lambda kit: kit.authority.write_text("x"), "damaged.*ask for another"),
        (lambda kit: kit.certificate[1].write_text("x"), "no pair: ask for another"),
        (lambda kit: shutil.copy(kit.folder.parent / "centre-b/keys/site.key", kit.certificate[1]), "no pair"),
    ],
)
def test_what_would_keep_a_member_from_connecting_is_said_with_the_remedy(tmp_path, change, words):
    kit = provisioned(tmp_path)
    change(kit)
    with pytest.raises(ConfigError, match=words):
        kit.check(private=(kit.folder / "keys/node.key",), public=(kit.folder / "node.toml",))


def test_an_expired_certificate_is_refused_with_its_day(tmp_path):
    now = datetime.now(UTC)
    kit = provisioned(tmp_path, now - timedelta(days=366))
    with pytest.raises(ConfigError, match=f"the site's certificate expired on {now - timedelta(days=1):%Y-%m-%d}: ask"):
        kit.check()


def test_settings_are_strict_and_their_faults_name_the_file(tmp_path):
    kit = Member(tmp_path)
    with pytest.raises(ConfigError, match=r"is no site's kit \(no member\.toml\): name the site's folder"):
        kit.read_settings(MemberFile)
    (tmp_path / "member.toml").write_text("port = 443\n")
    assert kit.read_settings(MemberFile).port == 443
    for text in ("port = 0\n", 'port = "443"\n', "prot = 443\n", "port"):
        (tmp_path / "member.toml").write_text(text)
        with pytest.raises(ConfigError, match=r"member\.toml.*your copy of the kit"):
            kit.read_settings(MemberFile)


def test_a_kit_is_in_use_by_one_process_at_a_time(tmp_path):
    kit = Member(tmp_path)
    assert not kit.is_in_use()
    with kit.in_use():
        assert kit.is_in_use()
        with pytest.raises(RunError, match="is served by another process already: end it first"), kit.in_use():
            pytest.fail("served twice")
    assert not kit.is_in_use()


def test_a_relative_folder_is_the_one_seen_when_the_kit_was_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path.parent)
    kit = Member(tmp_path.relative_to(tmp_path.parent))
    monkeypatch.chdir("/")
    assert kit.audit_file == tmp_path / "state" / "audit.jsonl"
