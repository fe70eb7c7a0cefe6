"""The kit's sites kept known: what half a copy, a refusal or a restart does to them. nginx and Flower are played."""

import os
import shutil
import threading
from datetime import UTC, datetime

import pytest

from server.deployment import site_membership
from server.deployment.provisioning.certificate_ledger import write_file
from server.deployment.provisioning.members import revoke, rotate
from server.deployment.server_kit import ServerKit
from server.deployment.site_membership import Membership
from shared.errors import ConfigError, RunError
from tests.hospitals import join
from tests.server.deployment.stand import make_consortium


class Played:
    """nginx, and Flower as it was seen to behave: it keeps the keys of nodes that were unregistered."""

    def __init__(self):
        self.events, self.loads, self.keys, self.online = [], [], {}, set()
        self.nginx_says, self.flower_says, self.asked = "", "", 0

    def note(self, event, **facts):
        self.events.append((event, facts.get("site", "")))
        self.facts = facts

    def reload_nginx(self, _kit, _process, _host, sites):
        if self.nginx_says:
            raise RunError(self.nginx_says)
        self.loads.append({site.name: (site.certificate, site.public_key) for site in sites})

    def register_all(self, sites, environment):
        numbers = []
        for site in sites:
            try:
                numbers.append(self.register(site, environment))
            except RunError as error:
                numbers.append(error)
        return numbers

    def register(self, site, _environment):
        self.asked += 1
        if self.flower_says:
            raise RunError(self.flower_says)
        if site.line in self.keys:
            raise RunError("Public key already in use")
        self.keys[site.line] = str(len(self.keys) + 1)
        self.online.add(self.keys[site.line])
        return self.keys[site.line]

    def unregister(self, number, _environment):
        self.asked += 1
        if self.flower_says:
            raise RunError(self.flower_says)
        self.online.discard(number)

    def heard(self):
        found, self.events = self.events, []
        return found


@pytest.fixture
def played(monkeypatch):
    made = Played()
    for name in ("reload_nginx", "register_all", "unregister"):
        monkeypatch.setattr(site_membership, name, getattr(made, name))
    monkeypatch.setattr(site_membership, "PAUSES_S", (1e6, 1e6))  # only changes count, unless a test says otherwise
    return made


@pytest.fixture
def consortium(tmp_path):
    """A consortium; its server's kit is a copy, as on a machine of its own."""
    made = make_consortium(tmp_path)
    shutil.copytree(made.root / "server", tmp_path / "machine")
    return made


@pytest.fixture
def members(consortium, tmp_path, played):
    made = Membership(ServerKit(tmp_path / "machine"), {}, "127.0.0.1", played.note)
    made.register_all(None)
    assert played.heard() == [("site-registered", "centre-a"), ("site-registered", "centre-b")]
    assert not played.loads  # nginx has just started with the same files
    return made


def copy(consortium, members, *names):
    """Bring files to the server's machine."""
    for name in names:
        shutil.copy(consortium.root / "server" / name, members.kit.folder / name)


def glances(members, count=2):
    for _ in range(count):
        members.update(None)


def seen(kit):
    return {site.name: (site.certificate, site.public_key) for site in kit.sites()}


def test_a_new_certificate_with_the_old_key_is_nginx_s_affair_alone(consortium, members, played):
    before = seen(members.kit)
    join(consortium.root, "centre-a")
    copy(consortium, members, "sites/centre-a.crt", "certificates/crl.pem")
    glances(members, 4)
    new = seen(consortium.kit)["centre-a"]
    assert played.loads == [before | {"centre-a": (new[0], before["centre-a"][1])}]
    assert played.heard() == []
    assert played.online == {"1", "2"}

    # The key comes later: now, and not before, the node is another one.
    copy(consortium, members, "sites/centre-a.pub")
    glances(members, 4)
    assert played.loads[1:] == [before | {"centre-a": new}]
    assert played.heard() == [("site-removed", "centre-a"), ("site-registered", "centre-a")]
    assert played.online == {"2", "3"}


@pytest.mark.parametrize("ending", ["pub", "crt"])
@pytest.mark.parametrize("part", [0, 60])
def test_half_a_file_leaves_its_site_as_it_was_and_is_told_once(consortium, members, played, ending, part):
    before = seen(members.kit)
    join(consortium.root, "centre-a")
    path = members.kit.folder / "sites" / f"centre-a.{ending}"
    path.write_bytes((consortium.root / "server" / "sites" / path.name).read_bytes()[:part])
    glances(members, 6)
    assert played.heard() == [("site-not-read", "centre-a")]
    assert str(members.kit.folder) not in played.facts["why"]
    assert played.loads == [before]
    assert played.online == {"1", "2"}
    copy(consortium, members, "sites/centre-a.crt", "sites/centre-a.pub")
    glances(members, 4)
    assert played.heard() == [("site-removed", "centre-a"), ("site-registered", "centre-a")]
    assert played.loads[-1] == seen(consortium.kit)
    # The same fault again is news again.
    path.write_bytes(b"")
    glances(members, 4)
    assert played.heard() == [("site-not-read", "centre-a")]


def test_another_site_is_taken_in_while_one_cannot_be_read(consortium, members, played):
    join(consortium.root, "centre-b")
    copy(consortium, members, "sites/centre-b.crt", "sites/centre-b.pub")
    (members.kit.folder / "sites" / "centre-a.pub").write_bytes(b"")
    glances(members)
    assert played.heard() == [
        ("site-not-read", "centre-a"), ("site-removed", "centre-b"), ("site-registered", "centre-b"),
    ]  # fmt: skip


def test_only_what_has_stood_still_is_acted_on(consortium, members, played):
    path = members.kit.folder / "sites" / "centre-a.pub"
    whole = path.read_bytes()
    for length in range(1, 20):  # a slow copy, looked at all the while
        path.write_bytes(whole[:length])
        members.update(None)
    assert not played.loads
    assert played.heard() == []
    path.write_bytes(whole)
    glances(members)
    assert len(played.loads) == 1
    assert played.heard() == []


def test_a_key_that_was_removed_and_put_back_needs_rotation_and_ends_nothing(consortium, members, played):
    path = members.kit.folder / "sites" / "centre-a.pub"
    kept = path.read_bytes()
    path.unlink()
    glances(members)
    assert played.heard() == [("site-removed", "centre-a")]
    path.write_bytes(kept)
    glances(members, 6)
    assert played.heard() == [("site-refused", "centre-a")]
    join(consortium.root, "centre-a")
    copy(consortium, members, "sites/centre-a.crt", "sites/centre-a.pub", "certificates/crl.pem")
    glances(members)
    assert played.heard() == [("site-registered", "centre-a")]


def test_a_missing_folder_sends_nobody_away(members, played):
    folder = members.kit.folder / "sites"
    folder.rename(folder.with_name("elsewhere"))
    glances(members, 4)
    assert played.heard() == [("kit-not-read", "")]
    assert played.online == {"1", "2"}
    folder.with_name("elsewhere").rename(folder)
    glances(members, 4)
    assert played.heard() == []


def test_a_machine_without_room_for_flowers_command_ends_nothing(consortium, members, played, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(site_membership, "register_all", full)
    monkeypatch.setattr(site_membership, "unregister", full)
    join(consortium.root, "centre-a")
    copy(consortium, members, "sites/centre-a.crt", "sites/centre-a.pub")
    glances(members, 4)
    assert played.heard() == [("site-not-removed", "centre-a"), ("site-refused", "centre-a")]


def send_away(consortium, members, name):
    revoke(consortium.root, name, datetime.now(UTC))
    copy(consortium, members, "certificates/crl.pem")
    for ending in ("pub", "crt"):
        (members.kit.folder / "sites" / f"{name}.{ending}").unlink()


def test_a_site_counts_as_removed_when_nginx_and_flower_have_both_done_it(consortium, members, played):
    played.nginx_says = f'nginx: [emerg] PEM_read("{members.kit.folder}/certificates/crl.pem") failed'
    played.flower_says = "Flower does not answer"
    send_away(consortium, members, "centre-a")
    glances(members, 4)
    assert played.heard() == [("reload-refused", ""), ("site-not-removed", "centre-a")]
    played.flower_says = ""
    os.utime(members.kit.revoked)
    glances(members, 4)
    assert played.online == {"2"}
    assert played.heard() == []  # nginx still has the old list
    played.nginx_says = ""
    os.utime(members.kit.revoked)
    glances(members, 4)
    assert played.heard() == [("reloaded", ""), ("site-removed", "centre-a")]
    assert "centre-a" not in played.loads[-1]


def test_a_site_that_returns_before_its_removal_was_told_is_registered_anew(consortium, members, played):
    played.nginx_says = "nginx: [emerg] no"
    path = members.kit.folder / "sites" / "centre-a.pub"
    kept = path.read_bytes()
    path.unlink()
    glances(members)
    path.write_bytes(kept)
    glances(members)
    assert played.heard() == [("reload-refused", ""), ("site-refused", "centre-a")]


def test_what_failed_is_tried_again_with_growing_pauses(consortium, members, played, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(site_membership, "PAUSES_S", (5.0, 20.0))
    monkeypatch.setattr(site_membership.time, "monotonic", lambda: clock[0])
    played.flower_says = "Flower does not answer"
    send_away(consortium, members, "centre-a")
    glances(members)
    tried = []
    for second in range(1, 80):
        clock[0], before = float(second), played.asked
        glances(members)
        tried += [second] * (played.asked - before)
    assert tried == [5, 15, 35, 55, 75]
    assert played.heard() == [("site-not-removed", "centre-a")]
    played.flower_says = ""
    clock[0] = 95.0
    glances(members)
    assert played.heard() == [("site-removed", "centre-a")]
    clock[0], before = 1000.0, played.asked
    glances(members)
    assert played.asked == before


def test_the_servers_own_new_certificate_is_loaded(consortium, members, played):
    rotate(consortium.root, "server", datetime.now(UTC))
    copy(consortium, members, "certificates/server.crt", "keys/server.key")
    glances(members)
    assert len(played.loads) == 1


def test_a_superlink_that_starts_again_is_told_everybody_and_who_left_meanwhile_is_told_too(
    consortium, members, played
):
    send_away(consortium, members, "centre-a")
    played.keys, played.online = {}, set()  # it ended, and knows nobody
    members.register_all(None)
    assert played.heard() == [("site-removed", "centre-a"), ("site-registered", "centre-b")]
    assert [list(sites) for sites in played.loads] == [["centre-b"]]
    assert members.registered == 1


def test_at_the_very_start_a_fault_ends_the_server_and_later_it_does_not(consortium, played):
    path = consortium.kit.folder / "sites" / "centre-a.pub"
    whole = path.read_bytes()
    first = Membership(consortium.kit, {}, "127.0.0.1", played.note)
    path.write_bytes(b"")
    with pytest.raises(ConfigError, match="centre-a"):
        first.register_all(None)
    path.write_bytes(whole)
    played.flower_says = "no reason given"
    with pytest.raises(RunError, match="no reason"):
        first.register_all(None)
    played.flower_says = ""
    first.register_all(None)
    played.heard()
    path.write_bytes(b"")
    played.keys, played.online = {}, set()
    first.register_all(None)
    # Its key is what it was when it was last read.
    told = [("site-not-read", "centre-a"), ("site-registered", "centre-a"), ("site-registered", "centre-b")]
    assert sorted(played.heard()) == told
    assert whole in played.keys


def test_drafts_are_no_change_and_files_that_vanish_no_error(consortium):
    kit, path = consortium.kit, consortium.kit.folder / "sites" / "centre-a.crt"
    content, stop = path.read_bytes(), threading.Event()

    def rewrite():
        while not stop.is_set():
            write_file(path, content)
            gone = path.with_name("centre-c.crt")
            gone.write_bytes(content)
            gone.unlink()

    thread = threading.Thread(target=rewrite)
    thread.start()
    try:
        names = {mark[0] for _ in range(3000) for mark in kit.stamp()}
    finally:
        stop.set()
        thread.join()
    assert not [name for name in names if name.startswith(".")]
    before = kit.stamp()
    path.with_name(".centre-a.crt.123").write_bytes(b"half")
    assert kit.stamp() == before
