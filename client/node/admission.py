"""How a hospital joins a consortium or renews its keys: it makes them itself, and installs what the coordinator signed.

New keys wait in `keys/new` until the signed kit is there; a node goes on with its old ones meanwhile. Both steps may be
repeated, after a kill too. No private key ever leaves the folder `keys`.
"""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from client.node.site_kit import NODE_FILE, SiteKit
from shared.atomic_files import write_atomically
from shared.errors import ConfigError
from shared.runtime.audit_log import AuditLog
from shared.runtime.exchange import authority_fingerprint, read_certificate, read_small_file
from shared.runtime.private_keys import new_key, node_private, private_pem, write_private
from shared.runtime.signed_kit import AUTHORITY, CERTIFICATE, LARGEST_KIT, OWN_FILES, SignedKit, open_kit
from shared.runtime.signing_request import SigningRequest, site_name, write_request

SITE_KEY, NODE_KEY = "site.key", "node.key"
_NEW, _DONE = Path("keys/new"), Path("keys/.installed")
_AUDIT = Path("state/audit.jsonl")


def ask_to_join(folder: Path, name: str) -> tuple[Path, SigningRequest]:
    """Make new keys, unless some wait already, and write the request for the coordinator; return it and its file.

    Parameters
    ----------
    folder
        The hospital's kit; it is made if need be.
    name
        The site's name; empty where the kit has it already.

    Raises
    ------
    ConfigError
        There is no name, it cannot be one, or the kit has another; or the waiting keys are damaged.

    """
    own = SiteKit(folder).name if (folder / NODE_FILE).is_file() else ""
    if own and name not in {"", own}:
        raise ConfigError(f"{folder} is the kit of '{own}', not of '{name}': leave --name out, or name another folder")
    if not (name := name or own):
        raise ConfigError(f"{folder} holds no kit yet: give --name, the site's name as agreed with the coordinator")
    site_name(name)
    if not (folder / ".gitignore").exists():  # private keys must not get into a repository
        write_atomically(folder / ".gitignore", b"*\n")
    for file, form in ((SITE_KEY, private_pem), (NODE_KEY, node_private)):
        if not (folder / _NEW / file).is_file():
            write_private(folder / _NEW / file, form(new_key()))
    (folder / "state").mkdir(exist_ok=True, mode=0o700)
    site_key, node_key = _waiting_keys(folder)
    request = SigningRequest(name, site_key.public_key(), node_key.public_key())
    path = folder / f"{name}.request"
    write_atomically(path, write_request(name, site_key, node_key), mode=0o644, durable=True)
    AuditLog(folder / _AUDIT).record("admission-requested", site=name, request=request.fingerprint)
    return path, request


def take_in(folder: Path, file: Path, told: str, now: datetime) -> SignedKit:
    """Check the coordinator's signed kit, install it and put the waiting keys into use.

    `told` is the consortium's fingerprint as the coordinator told it by telephone. Files that the hospital may have
    edited (`node.toml`, `compose.yaml`) stay as they are.

    Raises
    ------
    ConfigError
        The kit is damaged, of another consortium, or changed on its way; or it does not answer the request that waits.

    """
    kit = open_kit(read_small_file(file, LARGEST_KIT, "signed kit"), told)
    site_key, node_key = _waiting_keys(folder)
    waiting = SigningRequest(kit.site, site_key.public_key(), node_key.public_key()).fingerprint
    if kit.request != waiting:
        raise ConfigError(
            f"{file} answers the request {kit.request} of {kit.site}; in {folder} waits {waiting}: take the kit that "
            "answers this one, or send the request again"
        )
    if (folder / NODE_FILE).is_file() and (own := SiteKit(folder).name) != kit.site:
        raise ConfigError(f"{folder} is the kit of '{own}' and {file} that of '{kit.site}': name the other folder")
    authority = _check_certificate(kit, site_key.public_key(), now)
    for name, text in kit.files.items():
        if name not in OWN_FILES or not (folder / name).exists():
            write_atomically(folder / name, text.encode(), mode=0o644, durable=True)
    for name in (SITE_KEY, NODE_KEY):
        write_private(folder / "keys" / name, (folder / _NEW / name).read_bytes())
    AuditLog(folder / _AUDIT).record(
        "kit-installed", site=kit.site, request=kit.request, consortium=authority_fingerprint(authority)
    )
    (folder / f"{kit.site}.request").unlink(missing_ok=True)
    shutil.rmtree(folder / _DONE, ignore_errors=True)
    (folder / _NEW).rename(folder / _DONE)  # at once, so that no half of the pair is ever taken for new
    shutil.rmtree(folder / _DONE, ignore_errors=True)
    return kit


def _waiting_keys(folder: Path) -> tuple[ec.EllipticCurvePrivateKey, ec.EllipticCurvePrivateKey]:
    """The keys that wait for their kit: TLS and node."""
    new = folder / _NEW
    try:
        site_key = serialization.load_pem_private_key((new / SITE_KEY).read_bytes(), None)
        node_key = serialization.load_ssh_private_key((new / NODE_KEY).read_bytes(), None)
        if not isinstance(site_key, ec.EllipticCurvePrivateKey) or not isinstance(node_key, ec.EllipticCurvePrivateKey):
            raise TypeError("`join` makes keys on elliptic curves")
    except FileNotFoundError as error:
        raise ConfigError(
            f"no keys wait in {new} for a kit: this one is installed already, or call `fedbreast join` without it first"
        ) from error
    except (ValueError, TypeError) as error:
        raise ConfigError(f"a key in {new} is damaged: remove {new} and call `fedbreast join` again") from error
    return site_key, node_key


def _check_certificate(kit: SignedKit, key: ec.EllipticCurvePublicKey, now: datetime) -> x509.Certificate:
    """Check that the kit's certificate is the authority's for this site and this key; return the authority's."""
    try:
        authority = read_certificate(kit.files[AUTHORITY].encode())
        certificate = read_certificate(kit.files[CERTIFICATE].encode())
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise ConfigError("the kit's certificate is not its authority's: tell the coordinator") from error
    oids = NameOID.ORGANIZATIONAL_UNIT_NAME, NameOID.COMMON_NAME
    named = [[part.value for part in certificate.subject.get_attributes_for_oid(oid)] for oid in oids]
    if named != [["site"], [kit.site]] or certificate.public_key() != key:
        raise ConfigError("the kit's certificate is for another site or another key: tell the coordinator")
    if not certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc:
        raise ConfigError(
            f"the kit's certificate is valid from {certificate.not_valid_before_utc:%Y-%m-%d} to "
            f"{certificate.not_valid_after_utc:%Y-%m-%d}: set this machine's clock, or join again"
        )
    return authority
