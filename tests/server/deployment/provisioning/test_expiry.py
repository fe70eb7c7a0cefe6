"""How long certificates are valid, of a consortium and of each kit."""

import shutil
from datetime import UTC, datetime, timedelta

import pytest

from server.deployment.provisioning.certificate_ledger import read_ledger
from server.deployment.provisioning.expiry import certificate_expiry
from server.deployment.provisioning.members import revoke
from shared.errors import ConfigError


def names(folder, now):
    return {(item.certificate.role, item.certificate.name) for item in certificate_expiry(folder, now)}


def test_a_consortiums_certificates_in_use_are_listed_the_first_to_expire_first(own):
    now = datetime.now(UTC)
    members = {("server", "server"), ("observer", "observer"), ("site", "centre-a"), ("site", "centre-b")}
    assert names(own, now) == members | {("authority", "toy authority")}
    listed = certificate_expiry(own, now)
    assert listed[-1].certificate.role == "authority"
    assert [item.days_left for item in listed] == sorted(item.days_left for item in listed)
    revoke(own, "centre-b", now)
    assert names(own, now) == (members | {("authority", "toy authority")}) - {("site", "centre-b")}


@pytest.mark.parametrize(("left", "soon", "expired"), [(31, False, False), (29, True, False), (-1, True, True)])
def test_soon_and_past_are_told_by_the_kits_own_days_of_warning(made, left, soon, expired):
    until = next(item.until for item in read_ledger(made) if item.name == "server")
    (server,) = (
        item
        for item in certificate_expiry(made / "server", until - timedelta(days=left, hours=-1))
        if item.certificate.role == "server"
    )
    assert (server.soon, server.expired) == (soon, expired)


@pytest.mark.parametrize(("kit", "role"), [("centre-a", "site"), ("observer", "observer")])
def test_a_kit_without_such_a_setting_has_the_default(made, kit, role):
    certificate = next(item for item in read_ledger(made) if item.role == role)
    now = certificate.until - timedelta(days=29)
    (own,) = (item for item in certificate_expiry(made / kit, now) if item.certificate.role == role)
    assert own.soon


def test_a_folder_without_certificates_and_damaged_ones_are_refused(made, tmp_path):
    now = datetime.now(UTC)
    with pytest.raises(ConfigError, match="holds no certificate"):
        certificate_expiry(tmp_path, now)
    shutil.copytree(made / "server", tmp_path / "server")
    (tmp_path / "server" / "server.toml").write_text("warn_days = []")
    with pytest.raises(ConfigError, match=r"server\.toml is damaged"):
        certificate_expiry(tmp_path / "server", now)
    (tmp_path / "server" / "server.toml").unlink()
    (tmp_path / "server" / "certificates" / "server.crt").write_text("x")
    with pytest.raises(ConfigError, match=r"server\.crt is no certificate"):
        certificate_expiry(tmp_path / "server", now)
