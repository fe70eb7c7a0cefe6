"""Writes the kits of server and observer, and the signed kit of a hospital, which holds no private key."""

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
    node_public,
    pem,
)
from server.deployment.provisioning.certificate_ledger import write_file
from server.deployment.provisioning.consortium_file import Consortium
from server.deployment.server_kit import CASES_FILE
from server.deployment.template import fill_template
from shared.runtime.private_keys import private_pem, write_private
from shared.runtime.signed_kit import AUTHORITY, CERTIFICATE, sign_kit
from shared.runtime.signing_request import SigningRequest

SERVER: Final = "server"
OBSERVER: Final = "observer"
IMAGES = {
    "client_image": "fedbreast-client:0.1.0",
    "gpu_image": "fedbreast-client-gpu:0.1.0",
    "server_image": "fedbreast-server:0.1.0",
}


@dataclass(frozen=True, slots=True)
class Credentials:
    """TLS key and certificate of the server or the observer."""

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
    write_file(folder / "README.md", kit_text("server_readme.md.j2", consortium, server.until, {}))
    if not (folder / "compose.yaml").exists():  # it may have been edited
        write_file(folder / "compose.yaml", kit_text("server_compose.yaml.j2", consortium, server.until, {}))
    for name in ("state", "sites"):
        (folder / name).mkdir(exist_ok=True, mode=0o700)


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
    root: Path, consortium: Consortium, authority: Authority, request: SigningRequest, certificate: x509.Certificate
) -> None:
    """Write the signed kit that answers a hospital's request."""
    templates = {
        "node.toml": "node.toml.j2", "compose.yaml": "site_compose.yaml.j2", "README.md": "site_readme.md.j2",
    }  # fmt: skip
    facts, until = {"site": request.name}, certificate.not_valid_after_utc
    files = {name: kit_text(template, consortium, until, facts).decode() for name, template in templates.items()}
    files |= {AUTHORITY: pem(authority.certificate).decode(), CERTIFICATE: pem(certificate).decode()}
    write_file(site_kit(root, request.name), sign_kit(request.name, request.fingerprint, files, authority.key))


def site_kit(root: Path, name: str) -> Path:
    """Where a hospital's signed kit lies."""
    return root / f"{name}.kit"


def was_answered(root: Path, request: SigningRequest) -> bool:
    """Whether the signed kit that lies there is the answer to this request."""
    kit = site_kit(root, request.name)
    return kit.is_file() and request.fingerprint in kit.read_text(encoding="utf-8")


def add_site(root: Path, request: SigningRequest, certificate: x509.Certificate) -> None:
    """Add a site's certificate and its node's public key to the server's kit."""
    write_file(root / SERVER / "sites" / f"{request.name}.crt", pem(certificate))
    write_file(root / SERVER / "sites" / f"{request.name}.pub", node_public(request.node_key))


def remove_site(root: Path, name: str) -> None:
    """Remove a site's files from the server's kit, and its signed kit."""
    for ending in ("pub", "crt"):  # in this order: a running server lists the first and then reads the second
        (root / SERVER / "sites" / f"{name}.{ending}").unlink(missing_ok=True)
    site_kit(root, name).unlink(missing_ok=True)


def kit_text(template: str, consortium: Consortium, until: datetime, facts: Mapping[str, str]) -> bytes:
    """Fill a template of a kit, whose certificate ends at `until`; `facts`: what else it names, such as `site`."""
    values = {"consortium": consortium, "server": consortium.server, "until": f"{until:%Y-%m-%d}", **IMAGES, **facts}
    return fill_template(Path(__file__).with_name(template), **values).encode()
