"""What a coordinator does to a consortium: make it, let a hospital join, renew keys, shut a member out."""

from __future__ import annotations

import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from server.deployment.provisioning import kits
from server.deployment.provisioning.certificate_authority import make_authority, new_key
from server.deployment.provisioning.certificate_ledger import LEDGER, Registry, write_file
from server.deployment.provisioning.consortium_file import Consortium, load_consortium
from server.deployment.provisioning.kits import OBSERVER, SERVER, Credentials
from shared.errors import ConfigError
from shared.runtime.audit_log import AuditLog

DECLARED = Path("authority/consortium.toml")
AUDIT = Path("authority/audit.jsonl")


@dataclass(frozen=True, slots=True)
class Handout:
    """Folders that a call wrote anew, each with the day its certificate ends."""

    consortium: Consortium
    until: dict[str, datetime]
    first: bool = False


def provision(source: Path, root: Path, now: datetime) -> Handout:
    """Make a consortium's folder, or the kits of hospitals that were added to its file since.

    A new folder appears whole or not at all. A hospital counts as added only when its kit is whole: a killed call is
    made again, and what it had signed is revoked.

    Raises
    ------
    ConfigError
        The file cannot be meant; the folder holds something else; or it was made of a file that differs in more than
        further hospitals.

    """
    consortium, root = load_consortium(source), root.resolve()
    with _writing(root):
        if (root / LEDGER).is_file():
            return _add_sites(source, consortium, root, now)
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise ConfigError(f"{root} holds something else: choose another --out, or an empty folder")
        root.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{root.name}-draft-", dir=root.parent))  # mode 0700
        try:
            until = _make(source, consortium, draft, now)
            draft.rename(root)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return Handout(consortium, until, first=True)


def rotate(root: Path, name: str, now: datetime) -> Handout:
    """Give a member a new key and certificate (a site also a new node key), and revoke the old ones.

    A site that was revoked is admitted again.

    Raises
    ------
    ConfigError
        There is no such member, or the folder is no consortium's.

    """
    with _changing(root, now) as (registry, consortium):
        _must_be_member(name, (*consortium.site_names, SERVER, OBSERVER), "rotate")
        if name in consortium.site_names:
            until = {name: _admit(registry, consortium, name), SERVER: _server_until(registry)}
        else:
            until = {name: _renew(registry, consortium, name), SERVER: _server_until(registry)}
        _record(registry, "rotated", name)
    return Handout(consortium, until)


def revoke(root: Path, name: str, now: datetime) -> Handout:
    """Shut a site out: its certificate is revoked and the server no longer knows its node.

    Raises
    ------
    ConfigError
        There is no such site, or it is shut out already.

    """
    with _changing(root, now) as (registry, consortium):
        if name in {SERVER, OBSERVER}:
            raise ConfigError(f"the consortium cannot be without its {name}: call rotate, which revokes the old key")
        _must_be_member(name, consortium.site_names, "revoke")
        if registry.current("site", name) is None:
            kits.dismiss_site(registry.root, name)  # left there by a killed call
            raise ConfigError(f"{name} is revoked already; `fedbreast rotate` would admit it again")
        registry.withdraw("site", name)
        kits.dismiss_site(registry.root, name)
        _record(registry, "revoked", name)
        return Handout(consortium, {SERVER: _server_until(registry)})


def _make(source: Path, consortium: Consortium, root: Path, now: datetime) -> dict[str, datetime]:
    registry = Registry(root, make_authority(consortium.name, consortium.certificates.authority_days, now), (), now)
    ca = registry.authority.certificate
    kits.write_authority(root / "authority", registry.authority)
    # Private keys do not belong in anybody's repository.
    write_file(root / ".gitignore", b"*\n")
    until = {"authority": ca.not_valid_after_utc}
    until |= {name: _renew(registry, consortium, name) for name in (SERVER, OBSERVER)}
    until |= {name: _admit(registry, consortium, name) for name in consortium.site_names}
    write_file(root / DECLARED, source.read_bytes())
    _record(registry, "provisioned", consortium.name)
    return until


def _add_sites(source: Path, consortium: Consortium, root: Path, now: datetime) -> Handout:
    with _changing(root, now) as (registry, before):
        old, new = _flat(before.model_dump(exclude={"sites"})), _flat(consortium.model_dump(exclude={"sites"}))
        changed = [f"'{key}' from {old[key]!r} to {new[key]!r}" for key in old if old[key] != new[key]]
        if changed:
            raise ConfigError(
                f"{root} was made of another file: {source.name} changes {'; '.join(changed)}. Only new sites can be "
                f"added: put the rest back as in {root / DECLARED}, or choose another --out for a new consortium"
            )
        gone = [name for name in before.site_names if name not in consortium.site_names]
        if missing := [name for name in gone if registry.current("site", name)]:
            raise ConfigError(
                f"{source.name} no longer lists {', '.join(missing)}, which {root} still admits: call "
                f"`fedbreast revoke {shlex.quote(str(root))} {missing[0]}` first, or list it again"
            )
        joining = [name for name in consortium.site_names if name not in before.site_names]
        if not joining:
            raise ConfigError(
                f"{root} was made of this file already and is left as it is: add a hospital to {source.name} to make "
                f"its kit, or renew keys with `fedbreast rotate {shlex.quote(str(root))} NAME`"
            )
        until = {name: _admit(registry, consortium, name) for name in joining}
        for name in joining:
            _record(registry, "added", name)
        # Last: until then these hospitals count as new, and a killed call is made again.
        write_file(root / DECLARED, source.read_bytes())
        return Handout(consortium, until | {SERVER: _server_until(registry)})


def _admit(registry: Registry, consortium: Consortium, name: str) -> datetime:
    """Give a site new credentials, tell the server, and write its kit; says until when it holds."""
    key, node_key, ca, kit = new_key(), new_key(), registry.authority.certificate, registry.root / name
    site = Credentials(key, registry.replace("site", name, key.public_key(), consortium))
    kits.welcome_site(registry.root, name, site, node_key)
    if kit.exists():
        kits.write_site_kit(kit, name, consortium, ca, site, node_key)
        return site.until
    draft = Path(tempfile.mkdtemp(prefix=f".{name}-draft-", dir=registry.root))
    try:
        kits.write_site_kit(draft, name, consortium, ca, site, node_key)
        draft.chmod(0o755)
        draft.rename(kit)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return site.until


def _renew(registry: Registry, consortium: Consortium, name: str) -> datetime:
    """Give the server or the observer new credentials; says until when they hold."""
    key, ca = new_key(), registry.authority.certificate
    if name == SERVER:
        server = Credentials(key, registry.replace(SERVER, SERVER, key.public_key(), consortium))
        kits.write_server_kit(registry.root, consortium, ca, server)
        return server.until
    observer = Credentials(key, registry.replace(OBSERVER, OBSERVER, key.public_key(), consortium))
    kits.write_observer(registry.root, consortium, ca, observer)
    return observer.until


@contextmanager
def _changing(root: Path, now: datetime) -> Iterator[tuple[Registry, Consortium]]:
    """Open a consortium for one change at a time."""
    root = root.resolve()
    if not (root / LEDGER).is_file():
        raise ConfigError(
            f"{root} has no {LEDGER}: name the folder that `fedbreast provision` wrote, where its authority lies"
        )
    with _writing(root), FileLock(root / "authority" / ".lock", timeout=60):
        for draft in root.glob(".*-draft-*"):  # of a killed call
            shutil.rmtree(draft)
        yield Registry.open(root, now), load_consortium(root / DECLARED)


@contextmanager
def _writing(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"cannot write {error.filename or root}: {error.strerror or error}") from error


def _server_until(registry: Registry) -> datetime:
    found = registry.current("server", SERVER)
    return found.until if found else registry.now


def _must_be_member(name: str, members: tuple[str, ...], verb: str) -> None:
    if name not in members:
        raise ConfigError(f"there is no '{name}' to {verb}; there are {', '.join(members)}")


def _flat(section: dict[str, Any], path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in section.items():
        found |= _flat(value, f"{path}{key}.") if isinstance(value, dict) else {f"{path}{key}": value}
    return found


def _record(registry: Registry, event: str, name: str) -> None:
    AuditLog(registry.root / AUDIT).record(event, name=name, certificates=len(registry.entries))
