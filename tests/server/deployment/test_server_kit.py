"""The server's kit as it is read: its files, its sites, and what shows a change."""

from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from client.node.site_kit import SiteKit
from server.deployment.provisioning.members import revoke
from server.deployment.server_kit import ServerKit
from shared.errors import ConfigError
from tests.hospitals import join
from tests.server.deployment.stand import make_consortium


@pytest.fixture
def consortium(tmp_path):
    return make_consortium(tmp_path)


def test_the_server_and_a_site_open_their_kits(consortium):
    server, site = ServerKit(consortium.root / "server"), SiteKit(consortium.root / "centre-a")
    assert [key.name for key in server.sites()] == ["centre-a", "centre-b"]
    assert (site.name, site.server) == ("centre-a", f"127.0.0.1:{consortium.port}")
    assert site.approved() == ()
    assert site.data == consortium.root / "centre-a/data"
    files = (*server.certificate, server.authority, server.revoked, *site.certificate, site.authority, site.node_key)
    assert all(path.is_file() for path in files)


def test_a_site_is_known_by_its_certificate_and_its_node_key(consortium):
    site = consortium.kit.sites()[0]
    kit = consortium.site("centre-a")
    certificate = x509.load_pem_x509_certificate(kit.certificate[0].read_bytes())
    assert site.certificate == certificate.fingerprint(hashes.SHA1()).hex()  # noqa: S303 - as nginx
    key = serialization.load_ssh_private_key(kit.node_key.read_bytes(), None).public_key()
    form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    assert site.public_key == key.public_bytes(*form)
    assert serialization.load_ssh_public_key(site.line).public_bytes(*form) == site.public_key


def test_a_damaged_key_is_a_fault_of_its_site_alone_and_drafts_are_not_read(consortium):
    folder = consortium.root / "server" / "sites"
    (folder / "centre-b.pub").write_text("x")
    (folder / ".centre-c.pub.123").write_text("half")
    (folder / ".centre-c.pub").write_text("half")
    sites, faults = consortium.kit.read_sites()
    assert [site.name for site in sites] == ["centre-a"]
    assert list(faults) == ["centre-b"]
    with pytest.raises(ConfigError, match=r"centre-b\.pub or its certificate is missing or damaged"):
        consortium.kit.sites()


def test_a_missing_folder_of_sites_is_not_an_empty_one(consortium):
    (consortium.root / "server" / "sites").rename(consortium.root / "elsewhere")
    with pytest.raises(ConfigError, match="sites is missing: copy it"):
        consortium.kit.read_sites()


def test_every_change_shows_in_the_stamp_and_nothing_else_does(consortium):
    kit = consortium.kit
    before = kit.stamp()
    kit.sites()
    (kit.state / "audit.jsonl").write_text("{}")
    assert kit.stamp() == before
    join(consortium.root, "centre-a")
    rotated = kit.stamp()
    assert rotated != before
    revoke(consortium.root, "centre-b", datetime.now(UTC))
    assert kit.stamp() not in (before, rotated)
