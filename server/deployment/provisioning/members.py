"""The coordinator's changes to a consortium: make it, add a hospital, renew keys, shut a member out."""

from __future__ import annotations

import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from server.deployment.provisioning import kits
from server.deployment.provisioning.certificate_authority import make_authority, new_key
from server.deployment.provisioning.certificate_ledger import LEDGER_FILE, Ledger, write_file
from server.deployment.provisioning.consortium_file import Consortium, load_consortium
from server.deployment.provisioning.kits import OBSERVER, SERVER, Credentials
from shared.errors import ConfigError
from shared.runtime.audit_log import AuditLog
from shared.runtime.locks import hold_lock

CONSORTIUM_FILE = Path("authority/consortium.toml")
AUDIT = Path("authority/audit.jsonl")


@dataclass(frozen=True, slots=True)
class Handout:
    """The folders that a call has written, each with the day its certificate ends; whether the consortium is new."""

    consortium: Consortium
    until: dict[str, datetime]
    first: bool = False


def provision(source: Path, root: Path, now: datetime) -> Handout:
    """Make a consortium's folder, or the kits of hospitals that were added to its file since.

    A new folder appears whole or not at all. A hospital counts as added only when its kit is complete: after a killed
    call, call it again; what the killed call had signed is revoked. Only added hospitals may differ in the file.

    Raises
    ------
    ConfigError
        The file is not valid; the folder holds something else; or it was made from a file that differs in more than
        added hospitals.

    """
    consortium, root = load_consortium(source), root.resolve()
    with _writing(root):
        if (root / LEDGER_FILE).is_file():
            return _add_sites(source, consortium, root, now)
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise ConfigError(f"{root} holds something else: choose another --out, or an empty folder")
        root.parent.mkdir(parents=True, exist_ok=True)
        with _new_folder(root) as draft:
            until = _make_consortium(source, consortium, draft, now)
    return Handout(consortium, until, first=True)


def rotate(root: Path, name: str, now: datetime) -> Handout:
    """Give a member a new key and certificate (a site also a new node key), and revoke the old ones.

    A revoked site is admitted again. A name that is no member's is a `ConfigError`.
    """
    with _changing(root, now) as (ledger, consortium):
        _must_be_member(name, (*consortium.site_names, SERVER, OBSERVER), "rotate")
        own = _renew(ledger, consortium, name) if name in {SERVER, OBSERVER} else _admit(ledger, consortium, name)
        until = {name: own, SERVER: _server_until(ledger)}
        _record(ledger, "rotated", name)
    return Handout(consortium, until)


def revoke(root: Path, name: str, now: datetime) -> Handout:
    """Shut a site out: revoke its certificate and remove its node key from the server's kit.

    A name that is no site's, or that of one shut out already, is a `ConfigError`.
    """
    with _changing(root, now) as (ledger, consortium):
        if name in {SERVER, OBSERVER}:
            raise ConfigError(f"the consortium cannot be without its {name}: call rotate, which revokes the old key")
        _must_be_member(name, consortium.site_names, "revoke")
        if ledger.current("site", name) is None:
            kits.remove_site(ledger.root, name)  # left there by a killed call
            raise ConfigError(f"{name} is revoked already; `fedbreast rotate` would admit it again")
        ledger.withdraw("site", name)
        kits.remove_site(ledger.root, name)
        _record(ledger, "revoked", name)
        return Handout(consortium, {SERVER: _server_until(ledger)})


def _make_consortium(source: Path, consortium: Consortium, root: Path, now: datetime) -> dict[str, datetime]:
    ledger = Ledger(root, make_authority(consortium.name, consortium.certificates.authority_days, now), (), now)
    ca = ledger.authority.certificate
    kits.write_authority(root / "authority", ledger.authority)
    # Private keys must not get into a repository.
    write_file(root / ".gitignore", b"*\n")
    until = {"authority": ca.not_valid_after_utc}
    until |= {name: _renew(ledger, consortium, name) for name in (SERVER, OBSERVER)}
    until |= {name: _admit(ledger, consortium, name) for name in consortium.site_names}
    kits.write_most_cases(root, consortium)
    write_file(root / CONSORTIUM_FILE, source.read_bytes())
    _record(ledger, "provisioned", consortium.name)
    return until


def _add_sites(source: Path, consortium: Consortium, root: Path, now: datetime) -> Handout:
    with _changing(root, now) as (ledger, before):
        old, new = _flat(before.model_dump(exclude={"sites"})), _flat(consortium.model_dump(exclude={"sites"}))
        changed = [f"'{key}' from {old[key]!r} to {new[key]!r}" for key in old if old[key] != new[key]]
        if changed:
            raise ConfigError(
                f"{root} was made from another file: {source.name} changes {'; '.join(changed)}. Only new sites can be "
                f"added: put the rest back as in {root / CONSORTIUM_FILE}, or choose another --out for a new consortium"
            )
        absent = [name for name in before.site_names if name not in consortium.site_names]
        if missing := [name for name in absent if ledger.current("site", name)]:
            raise ConfigError(
                f"{source.name} no longer lists {', '.join(missing)}, which {root} still admits: call "
                f"`fedbreast revoke {shlex.quote(str(root))} {missing[0]}` first, or list it again"
            )
        new_sites = [name for name in consortium.site_names if name not in before.site_names]
        if not new_sites and consortium.most_cases == before.most_cases:
            raise ConfigError(
                f"{root} was made from this file already and is left as it is: add a hospital to {source.name} to make "
                f"its kit, or renew keys with `fedbreast rotate {shlex.quote(str(root))} NAME`"
            )
        until = {name: _admit(ledger, consortium, name) for name in new_sites}
        for name in new_sites:
            _record(ledger, "added", name)
        # Last: until then these hospitals count as new, so that a killed call can be repeated.
        kits.write_most_cases(root, consortium)
        write_file(root / CONSORTIUM_FILE, source.read_bytes())
        return Handout(consortium, until | {SERVER: _server_until(ledger)})


def _admit(ledger: Ledger, consortium: Consortium, name: str) -> datetime:
    """Give a site new credentials, add it to the server's kit, and write its own; return when they expire."""
    key, node_key, ca, kit = new_key(), new_key(), ledger.authority.certificate, ledger.root / name
    site = Credentials(key, ledger.replace("site", name, key.public_key(), consortium))
    kits.add_site(ledger.root, name, site, node_key)
    with nullcontext(kit) if kit.exists() else _new_folder(kit, 0o755) as folder:
        kits.write_site_kit(folder, name, consortium, ca, site, node_key)
    return site.until


def _renew(ledger: Ledger, consortium: Consortium, name: str) -> datetime:
    """Give the server or the observer new credentials; return when they expire."""
    key = new_key()
    role: Literal["server", "observer"] = SERVER if name == SERVER else OBSERVER
    credentials = Credentials(key, ledger.replace(role, name, key.public_key(), consortium))
    write = kits.write_server_kit if name == SERVER else kits.write_observer
    write(ledger.root, consortium, ledger.authority.certificate, credentials)
    return credentials.until


@contextmanager
def _new_folder(folder: Path, mode: int = 0o700) -> Iterator[Path]:
    """A draft of a folder that is moved into its place when the context ends well, and else removed."""
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-draft-", dir=folder.parent))
    try:
        yield draft
        draft.chmod(mode)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def _changing(root: Path, now: datetime) -> Iterator[tuple[Ledger, Consortium]]:
    """Open a consortium for a change, with other calls kept out meanwhile."""
    root = root.resolve()
    if not (root / LEDGER_FILE).is_file():
        raise ConfigError(
            f"{root} has no {LEDGER_FILE}: name the folder that `fedbreast provision` wrote, where its authority lies"
        )
    refusal = f"another call is changing {root}: wait for it to end"
    with _writing(root), hold_lock(root / "authority" / ".lock", refusal, patience_s=60):
        for draft in root.glob(".*-draft-*"):  # of a killed call
            shutil.rmtree(draft)
        yield Ledger.read(root, now), load_consortium(root / CONSORTIUM_FILE)


@contextmanager
def _writing(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"cannot write {error.filename or root}: {error.strerror or error}") from error


def _server_until(ledger: Ledger) -> datetime:
    certificate = ledger.current("server", SERVER)
    return certificate.until if certificate else ledger.now


def _must_be_member(name: str, members: tuple[str, ...], verb: str) -> None:
    if name not in members:
        raise ConfigError(f"there is no '{name}' to {verb}; there are {', '.join(members)}")


def _flat(section: dict[str, Any], path: str = "") -> dict[str, Any]:
    """A section with its subsections as one level: `{"server.port": 9443}`."""
    flat: dict[str, Any] = {}
    for key, value in section.items():
        flat |= _flat(value, f"{path}{key}.") if isinstance(value, dict) else {f"{path}{key}": value}
    return flat


def _record(ledger: Ledger, event: str, name: str) -> None:
    AuditLog(ledger.root / AUDIT).record(event, name=name, certificates=len(ledger.entries))
