"""The texts in the kits: closed containers, published ports, instructions with their expiry."""

from datetime import UTC, datetime

import jinja2
import pytest
import yaml
from cryptography import x509

from server.deployment.provisioning.consortium_file import load_consortium
from server.deployment.provisioning.kits import kit_text


def services(kit):
    return yaml.safe_load((kit / "compose.yaml").read_text())["services"]


@pytest.mark.parametrize("kit", ["server", "centre-a"])
def test_containers_are_closed(made, kit):
    for name, service in services(made / kit).items():
        if name == "site-gpu":
            assert service["extends"] == {"service": "site"}
            continue
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["user"] == "10001:10001"
        assert service["tmpfs"] == ["/tmp"]  # noqa: S108 - inside the container
        assert "privileged" not in service
        assert service["mem_limit"] == "16g"
        assert 0 < service["pids_limit"] <= 1024
        assert service["logging"]["options"]["max-size"] == "10m"
        written = [mount for mount in service["volumes"] if not mount.endswith(":ro")]
        assert written == ["./state:/kit/state", *(["runs:/work/runs"] if name == "server" else [])]
        assert (made / kit / "state").is_dir()  # a mount point cannot be made in a read-only folder


def test_the_server_publishes_its_two_ports_and_a_site_none(made):
    server = services(made / "server")["server"]
    assert server["ports"] == ["9443:9443", "9444:9444"]
    assert server["healthcheck"]["test"] == ["CMD", "fedbreast", "health", "/kit"]
    site = services(made / "centre-a")["site"]
    assert "ports" not in site
    assert site["environment"]["FEDBREAST_SITE_DATA"] == "/data"
    assert any(mount.startswith("${SITE_DATA:?") and mount.endswith(":/data:ro") for mount in site["volumes"])


def test_a_sites_instructions_name_its_address_expiry_and_commands(made):
    text = (made / "centre-a/README.md").read_text()
    until = x509.load_pem_x509_certificate((made / "centre-a/certificates/site.crt").read_bytes()).not_valid_after_utc
    assert f"expires on {until:%Y-%m-%d}" in text
    assert "TCP to fed.example.org port 9443" in text
    for command in ("approve KIT", "serve-site KIT", "audit-log verify KIT/state/audit.jsonl", "check /path"):
        assert f"fedbreast {command}" in text
    assert "fedbreast join KIT centre-a.kit" in text
    assert "centre-b" not in text


def test_a_name_that_a_template_lacks_is_an_error(made):
    consortium = load_consortium(made.parent / "toy.toml")
    until = datetime(2027, 3, 1, tzinfo=UTC)
    assert b'name = "centre-a"' in kit_text("node.toml.j2", consortium, until, {"site": "centre-a"})
    with pytest.raises(jinja2.UndefinedError, match="site"):
        kit_text("node.toml.j2", consortium, until, {})
