"""Writes the kit of each member of a consortium; files that the owner may have edited are written only once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

import tomli_w
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from server.deployment.provisioning.certificate_authority import (
    CERTIFICATE_FILE,
    KEY_FILE,
    Authority,
    node_private,
    node_public,
    pem,
    private_pem,
)
from server.deployment.provisioning.certificate_ledger import write_file, write_private
from server.deployment.provisioning.consortium_file import Consortium
from server.deployment.server_kit import CASES_FILE
from server.deployment.template import fill_template

SERVER: Final = "server"
OBSERVER: Final = "observer"
IMAGES = {
    "client_image": "fedbreast-client:0.1.0",
    "gpu_image": "fedbreast-client-gpu:0.1.0",
    "server_image": "fedbreast-server:0.1.0",
}


@dataclass(frozen=True, slots=True)
class Credentials:
    """A member's TLS key and certificate."""

    key: ec.EllipticCurvePrivateKey = field(repr=False)
    certificate: x509.Certificate

    @property
    def until(self) -> datetime:
        """When the certificate ends."""
        return self.certificate.not_valid_after_utc

    def write(self, certificate: Path, key: Path) -> None:
        """Write both; the key for its owner alone."""
        write_private(key, private_pem(self.key))
        write_file(certificate, pem(self.certificate))


def write_authority(folder: Path, authority: Authority) -> None:
    """Write the authority's key and certificate, which stay offline."""
    write_private(folder / KEY_FILE, private_pem(authority.key))
    write_file(folder / CERTIFICATE_FILE, pem(authority.certificate))


def write_server_kit(root: Path, consortium: Consortium, ca: x509.Certificate, server: Credentials) -> None:
    """Write the server's kit, without the observer's credentials and the sites."""
    folder = root / SERVER
    server.write(folder / "certificates" / "server.crt", folder / "keys" / "server.key")
    write_file(folder / "certificates" / CERTIFICATE_FILE, pem(ca))
    settings = {
        "name": consortium.name,
        "profile": consortium.profile,
        **consortium.server.model_dump(),
        "warn_days": consortium.certificates.warn_days,
    }
    write_file(folder / "server.toml", tomli_w.dumps(settings).encode())
    _write_texts(folder, "server", consortium, server.until, {})


def write_most_cases(root: Path, consortium: Consortium) -> None:
    """Write into the server's kit what was agreed of the hospitals' sizes."""
    write_file(root / SERVER / CASES_FILE, tomli_w.dumps({"most_cases": consortium.most_cases}).encode())


def write_observer(root: Path, consortium: Consortium, ca: x509.Certificate, observer: Credentials) -> None:
    """Write the observer's folder, and the same credentials into the server's kit for its own health check."""
    folder, server = root / OBSERVER, root / SERVER
    observer.write(server / "certificates" / "observer.crt", server / "keys" / "observer.key")
    observer.write(folder / "observer.crt", folder / "observer.key")
    write_file(folder / CERTIFICATE_FILE, pem(ca))
    place = {"address": consortium.server.address, "status_port": consortium.server.status_port}
    write_file(folder / "observer.toml", tomli_w.dumps(place).encode())


def write_site_kit(
    folder: Path,
    name: str,
    consortium: Consortium,
    ca: x509.Certificate,
    site: Credentials,
    node_key: ec.EllipticCurvePrivateKey,
) -> None:
    """Write a hospital's kit."""
    site.write(folder / "certificates" / "site.crt", folder / "keys" / "site.key")
    write_private(folder / "keys" / "node.key", node_private(node_key))
    write_file(folder / "certificates" / CERTIFICATE_FILE, pem(ca))
    facts = {"site": name}
    _write_once(folder / "node.toml", kit_text("node.toml.j2", consortium, site.until, facts))
    _write_texts(folder, "site", consortium, site.until, facts)


def add_site(root: Path, name: str, site: Credentials, node_key: ec.EllipticCurvePrivateKey) -> None:
    """Add a site's certificate and its node's public key to the server's kit."""
    write_file(root / SERVER / "sites" / f"{name}.crt", pem(site.certificate))
    write_file(root / SERVER / "sites" / f"{name}.pub", node_public(node_key))


def remove_site(root: Path, name: str) -> None:
    """Remove a site's files from the server's kit."""
    for ending in ("pub", "crt"):  # in this order: a running server lists the first and then reads the second
        (root / SERVER / "sites" / f"{name}.{ending}").unlink(missing_ok=True)


def _write_texts(folder: Path, kind: str, consortium: Consortium, until: datetime, facts: Mapping[str, str]) -> None:
    """Write instructions with the kit's expiry date and the compose file, and make the folder `state`."""
    write_file(folder / "README.md", kit_text(f"{kind}_readme.md.j2", consortium, until, facts))
    _write_once(folder / "compose.yaml", kit_text(f"{kind}_compose.yaml.j2", consortium, until, facts))
    (folder / "state").mkdir(exist_ok=True, mode=0o700)


def kit_text(template: str, consortium: Consortium, until: datetime, facts: Mapping[str, str]) -> bytes:
    """Fill a template of a kit, whose certificate ends at `until`; `facts`: what else it names, such as `site`."""
    values = {"consortium": consortium, "server": consortium.server, "until": f"{until:%Y-%m-%d}", **IMAGES, **facts}
    return fill_template(Path(__file__).with_name(template), **values).encode()


def _write_once(path: Path, content: bytes) -> None:
    if not path.exists():
        write_file(path, content)
