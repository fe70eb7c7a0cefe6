"""A hospital's kit: where it leads, and what it approves."""

import codecs
import tomllib

import pytest
import tomli_w

from client.node.site_kit import APPROVED_FILE, SITE_DATA, SiteKit
from shared.errors import ConfigError

SETTINGS = {"server": {"address": "fed.example.org", "port": 9443}, "site": {"name": "centre-a"}}
FIRST, SECOND = "ab" * 32, "ac" * 32


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "node.toml").write_text(tomli_w.dumps(SETTINGS))
    return tmp_path


def test_relative_places_start_at_the_kit_and_absolute_ones_stand(folder, monkeypatch):
    kit = SiteKit(folder)
    assert (kit.data, kit.cache, kit.server) == (folder / "data", folder / "state/cache", "fed.example.org:9443")
    (folder / "node.toml").write_text(tomli_w.dumps(SETTINGS | {"site": {"name": "centre-a", "data": "/mnt/mri"}}))
    assert str(SiteKit(folder).data) == "/mnt/mri"
    monkeypatch.setenv(SITE_DATA, "/data")
    assert str(SiteKit(folder).data) == "/data"


def test_a_relative_name_of_the_folder_leads_to_it_from_anywhere(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    kit = SiteKit(folder.relative_to(folder.parent))
    monkeypatch.chdir("/")
    assert kit.authority == folder / "certificates/ca.crt"


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("server", "port", 0),
        ("server", "insecure", True),
        ("site", "name", "Centre A"),
        ("site", "name", "../centre-b"),
        ("policy", "max_rounds", 0),
        ("policy", "tasks", ["lesion-segmentatoin"]),
        ("policy", "round", 3),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused_with_its_path(folder, section, key, value):
    changed = SETTINGS | {section: {**SETTINGS.get(section, {}), key: value}}
    (folder / "node.toml").write_text(tomli_w.dumps(changed))
    with pytest.raises(ConfigError, match=rf"node\.toml: .*'{section}\.{key}"):
        SiteKit(folder)


def test_a_folder_without_or_with_a_broken_node_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no site's kit"):
        SiteKit(tmp_path)
    (tmp_path / "node.toml").write_text("[server")
    with pytest.raises(ConfigError, match="not valid TOML"):
        SiteKit(tmp_path)


def test_nothing_is_approved_at_first_and_an_approval_holds_at_once(folder):
    kit, other = SiteKit(folder), SiteKit(folder)
    assert kit.approved() == ()
    kit.approve(FIRST, "fedbreast 1.0", "data-officer")
    (entry,) = other.approved()
    assert (entry.sha256, entry.app, entry.by) == (FIRST, "fedbreast 1.0", "data-officer")


def test_approving_twice_leaves_one_entry(folder):
    kit = SiteKit(folder)
    kit.approve(FIRST, "fedbreast 1.0")
    kit.approve(SECOND, "fedbreast 1.1")
    kit.approve(FIRST, "fedbreast 1.0", "second-officer")
    assert {(item.sha256, item.by) for item in kit.approved()} == {(FIRST, "second-officer"), (SECOND, "")}
    assert len(kit.approved()) == 2


def test_withdrawing_takes_exactly_the_one_that_is_meant(folder):
    kit = SiteKit(folder)
    kit.approve(FIRST, "fedbreast 1.0")
    kit.approve(SECOND, "fedbreast 1.1")
    for unclear in ("a", "", "f"):
        with pytest.raises(ConfigError, match="more characters"):
            kit.withdraw(unclear)
    assert len(kit.approved()) == 2
    assert kit.withdraw("ab").sha256 == FIRST
    assert [item.sha256 for item in kit.approved()] == [SECOND]


@pytest.mark.parametrize("digest", ["", "ab", "G" * 64, "AB" * 32, "ab" * 33])
def test_what_is_no_hash_is_not_approved(folder, digest):
    with pytest.raises(ValueError, match="sha256"):
        SiteKit(folder).approve(digest, "x")
    assert not (folder / APPROVED_FILE).exists()


def test_a_killed_approval_leaves_the_old_list(folder, monkeypatch):
    kit = SiteKit(folder)
    kit.approve(FIRST, "fedbreast 1.0")
    before = (folder / APPROVED_FILE).read_bytes()

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(folder), "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        kit.approve(SECOND, "fedbreast 1.1")
    assert (folder / APPROVED_FILE).read_bytes() == before
    assert tomllib.loads(before.decode())["app"][0]["sha256"] == FIRST


def test_hashes_are_those_of_the_list_as_it_is_now_and_none_when_it_is_damaged(folder):
    kit = SiteKit(folder)
    assert kit.approved_hashes() == frozenset()
    kit.approve(FIRST, "fedbreast 1.0")
    kit.approve(SECOND, "fedbreast 1.1")
    kit.approve(FIRST, "fedbreast 1.0", "second-officer")
    assert kit.approved_hashes() == {FIRST, SECOND}
    kit.withdraw(FIRST)
    assert kit.approved_hashes() == {SECOND}
    (folder / APPROVED_FILE).write_text("[[")
    assert kit.approved_hashes() == frozenset()


def test_a_byte_order_mark_in_a_list_of_approved_apps_is_no_matter(folder):
    kit = SiteKit(folder)
    kit.approve(FIRST, "fedbreast 1.0")
    for name in ("node.toml", APPROVED_FILE):
        (folder / name).write_bytes(codecs.BOM_UTF8 + (folder / name).read_bytes())
    assert [item.sha256 for item in SiteKit(folder).approved()] == [FIRST]
