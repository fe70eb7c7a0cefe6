"""The coordinator's changes to a consortium: make it, list or admit a hospital, renew its own keys, shut a site out."""

from __future__ import annotations

import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from server.deployment.provisioning import kits
from server.deployment.provisioning.certificate_authority import make_authority
from server.deployment.provisioning.certificate_ledger import LEDGER_FILE, Ledger, write_file
from server.deployment.provisioning.consortium_file import Consortium, load_consortium
from server.deployment.provisioning.kits import OBSERVER, SERVER, Credentials
from shared.errors import ConfigError
from shared.runtime.audit_log import AuditLog
from shared.runtime.exchange import authority_fingerprint, check_told, read_small_file
from shared.runtime.locks import hold_lock
from shared.runtime.private_keys import new_key
from shared.runtime.signing_request import LARGEST_REQUEST, SigningRequest, read_request

CONSORTIUM_FILE = Path("authority/consortium.toml")
AUDIT = Path("authority/audit.jsonl")


@dataclass(frozen=True, slots=True)
class Handout:
    """What a call has written for whom, each with the day its certificate ends.

    `fingerprint` is the consortium's, to be told by telephone; `listed` are hospitals that were added to its file.
    """

    consortium: Consortium
    until: dict[str, datetime]
    fingerprint: str
    listed: tuple[str, ...] = ()


def provision(source: Path, root: Path, now: datetime) -> Handout:
    """Make a consortium's folder, or list the hospitals that were added to its file since.

    A new folder appears whole or not at all. No hospital has a key yet: each makes its own, and `admit` signs it.

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
            return _make_consortium(source, consortium, draft, now)


def admit(root: Path, name: str, request_file: Path, told: str, now: datetime) -> Handout:
    """Sign a hospital's request and write its kit; what it had before is revoked.

    Parameters
    ----------
    root, now
        The consortium's folder, where its authority lies; the time of signing.
    name
        The hospital, as the consortium's file lists it. One that was revoked is admitted again.
    request_file, told
        What `fedbreast join` wrote at the hospital, and its fingerprint as the hospital read it out by telephone.

    Raises
    ------
    ConfigError
        The hospital is not listed; the request is another one's, faulty, or not the one with that fingerprint; or one
        of its keys was admitted before: a request is taken once.

    """
    with _changing(root, now) as (ledger, consortium):
        _must_be_member(name, consortium.site_names, "admit")
        request = read_request(read_small_file(request_file, LARGEST_REQUEST, "signing request"))
        if request.name != name:
            raise ConfigError(f"{request_file} is the request of '{request.name}', not of '{name}': nothing was signed")
        check_told(told, request.fingerprint, str(request_file))
        _refuse_used_keys(ledger, request)
        certificate = ledger.replace("site", name, request.site_key, consortium, request.node_key)
        kits.add_site(ledger.root, request, certificate)
        # Last: until it is there, a killed call can be repeated with the same request.
        kits.write_site_kit(ledger.root, consortium, ledger.authority, request, certificate)
        _record(ledger, "admitted", name, request=request.fingerprint)
        until = {kits.site_kit(ledger.root, name).name: certificate.not_valid_after_utc}
        return _handout(ledger, consortium, until)


def rotate(root: Path, name: str, now: datetime) -> Handout:
    """Give the server or the observer a new key and certificate, and revoke the old ones.

    A hospital's keys are made at the hospital: for its name, and for one that is no member's, a `ConfigError`.
    """
    with _changing(root, now) as (ledger, consortium):
        if name in consortium.site_names:
            raise ConfigError(
                f"{name} makes its own keys: call `fedbreast join` there, then `fedbreast admit` here with its request"
            )
        _must_be_member(name, (SERVER, OBSERVER), "rotate")
        until = {name: _renew(ledger, consortium, name)}
        _record(ledger, "rotated", name)
        return _handout(ledger, consortium, until)


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
            raise ConfigError(f"{name} is revoked already or was never admitted: a new request of its own lets it in")
        ledger.withdraw("site", name)
        kits.remove_site(ledger.root, name)
        _record(ledger, "revoked", name)
        return _handout(ledger, consortium, {})


def _make_consortium(source: Path, consortium: Consortium, root: Path, now: datetime) -> Handout:
    ledger = Ledger(root, make_authority(consortium.name, consortium.certificates.authority_days, now), (), now)
    ca = ledger.authority.certificate
    kits.write_authority(root / "authority", ledger.authority)
    # Private keys must not get into a repository.
    write_file(root / ".gitignore", b"*\n")
    until = {"authority": ca.not_valid_after_utc}
    until |= {name: _renew(ledger, consortium, name) for name in (SERVER, OBSERVER)}
    kits.write_most_cases(root, consortium)
    write_file(root / CONSORTIUM_FILE, source.read_bytes())
    _record(ledger, "provisioned", consortium.name)
    return Handout(consortium, until, authority_fingerprint(ca), consortium.site_names)


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
                f"{root} was made from this file already and is left as it is: add a hospital to {source.name} to list "
                f"it, let one in with `fedbreast admit {shlex.quote(str(root))} NAME REQUEST`, or renew the server's "
                f"keys with `fedbreast rotate {shlex.quote(str(root))} server`"
            )
        kits.write_most_cases(root, consortium)
        write_file(root / CONSORTIUM_FILE, source.read_bytes())
        for name in new_sites:
            _record(ledger, "listed", name)
        return _handout(ledger, consortium, {}, tuple(new_sites))


def _refuse_used_keys(ledger: Ledger, request: SigningRequest) -> None:
    """Refuse keys that a certificate was given with before, but for those of a killed call that wrote no kit."""
    holders = [ledger.holder(key) for key in (request.site_key, request.node_key)]
    current = ledger.current("site", request.name)
    if current and holders == [current, current] and not kits.was_answered(ledger.root, request):
        return
    for what, holder in zip(("TLS", "node"), holders, strict=True):
        if holder:
            raise ConfigError(
                f"the {what} key of this request was admitted before ({holder.role} {holder.name}, "
                f"{holder.since:%Y-%m-%d}), and a request is taken once: send {request.name}.kit again if it was lost; "
                "for new keys the hospital removes `keys/new` and calls `fedbreast join`"
            )


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


def _handout(
    ledger: Ledger, consortium: Consortium, until: dict[str, datetime], listed: tuple[str, ...] = ()
) -> Handout:
    """What was written, and the server's kit, which every change concerns."""
    server = ledger.current("server", SERVER)
    until = until | {SERVER: server.until if server else ledger.now}
    return Handout(consortium, until, authority_fingerprint(ledger.authority.certificate), listed)


def _must_be_member(name: str, members: tuple[str, ...], verb: str) -> None:
    if name not in members:
        raise ConfigError(f"there is no '{name}' to {verb}; there are {', '.join(members)}")


def _flat(section: dict[str, Any], path: str = "") -> dict[str, Any]:
    """A section with its subsections as one level: `{"server.port": 9443}`."""
    flat: dict[str, Any] = {}
    for key, value in section.items():
        flat |= _flat(value, f"{path}{key}.") if isinstance(value, dict) else {f"{path}{key}": value}
    return flat


def _record(ledger: Ledger, event: str, name: str, **facts: str) -> None:
    AuditLog(ledger.root / AUDIT).record(event, name=name, certificates=len(ledger.entries), **facts)
