"""A site folder: `site.toml`, `cases.csv`, and images in any nesting. It is only read, never written.

`site.toml` has `[site] name`, optional `pseudonym_key` (hexadecimal, 16 bytes or more), `kind` (`hospital` or
`phantom`) and `images` (another folder that holds the images, as of an imported dataset). Without a key in it, one is
made outside the folder, see `_read_or_make_key`. What the hospital allows a run stands in its kit (`shared.policy`).
"""

from __future__ import annotations

import difflib
import hashlib
import hmac
import os
import secrets
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from shared.atomic_files import write_atomically
from shared.cohort.manifest import TABLE_NAME, CaseRow
from shared.config.sections import Section, SiteName
from shared.config.strict_toml import parse_toml
from shared.errors import SiteError
from shared.runtime.locks import hold_lock

SITE_FILE = "site.toml"
_PHANTOM_RECORDS = ".phantom"  # `shared.phantom.marker.RECORDS`: the generator leaves it at every centre
_KEY_BYTES = 32
_PATIENCE_S = 10.0
_SHORTEST_KEY = 16
_MOST_NAMED = 8


class _Site(Section):
    name: SiteName
    pseudonym_key: str = Field(default="", repr=False)
    kind: Literal["hospital", "phantom"] = "hospital"
    images: str = Field(default="", repr=False)

    @field_validator("images")
    @classmethod
    def _absolute(cls, value: str) -> str:
        if value and not Path(value).is_absolute():
            raise ValueError("needs an absolute path, or leave it out where images lie in the site's folder")
        return value

    @field_validator("pseudonym_key")
    @classmethod
    def _hexadecimal(cls, value: str) -> str:
        try:
            long_enough = not value or len(bytes.fromhex(value)) >= _SHORTEST_KEY
        except ValueError:
            long_enough = False
        if not long_enough:
            raise ValueError(f"needs at least {2 * _SHORTEST_KEY} hexadecimal digits, or leave it out")
        return value


class _SiteFile(Section):
    site: _Site
    policy: dict[str, Any] = Field(default_factory=dict, description="Until 2026; a phantom's is passed over.")

    @model_validator(mode="after")
    def _policy_moved(self) -> _SiteFile:
        if self.policy and self.site.kind == "hospital":
            raise ValueError(
                "[policy] stands in the kit's node.toml now, with 'least_patients' for 'least_count': take it out "
                "here; `fedbreast check` has --max-excluded-share"
            )
        return self


@dataclass(frozen=True, slots=True)
class SiteFolder:
    """A site folder and its settings. The key never leaves the site and is not in the `repr`.

    `images` is the folder that the paths of the table are relative to: the site's folder, unless `site.toml` names
    another one.
    """

    path: Path
    images: Path
    name: str
    pseudonym_key: bytes = field(repr=False)
    kind: Literal["hospital", "phantom"]

    @property
    def phantom(self) -> bool:
        """Whether its data are phantoms: `site.toml` says so, or the generator has left its records beside them."""
        left = any((folder / _PHANTOM_RECORDS).is_dir() for folder in (self.path, self.images))
        return self.kind == "phantom" or left


def open_site_folder(path: Path) -> SiteFolder:
    """Read the `site.toml` of a site folder; a `SiteError` says what another folder contains, or the fault."""
    if not path.is_dir():
        raise SiteError(f"site folder {path} does not exist; name a folder with {SITE_FILE} and {TABLE_NAME}")
    for name in (SITE_FILE, TABLE_NAME):
        if not (path / name).is_file():
            raise SiteError(f"{path} has no {name}: {_describe_folder(path)}")
    settings = _read_settings(path / SITE_FILE)
    key = bytes.fromhex(settings.site.pseudonym_key) or _read_or_make_key(path.resolve())
    images = Path(settings.site.images or path).resolve()
    if not images.is_dir():
        raise SiteError(f"{path / SITE_FILE}: 'site.images' names a folder that does not exist here")
    return SiteFolder(path.resolve(), images, settings.site.name, key, settings.site.kind)


def _describe_folder(path: Path) -> str:
    """Describe a folder that is no site folder; only names of site folders are shown, as others may name patients."""
    sites = sorted(item.parent.name for item in path.glob(f"*/{SITE_FILE}"))
    if sites:
        named = ", ".join(sites[:_MOST_NAMED]) + (", ..." if len(sites) > _MOST_NAMED else "")
        return f"it holds {len(sites)} site folders ({named}); name one of them"
    for parent in path.resolve().parents:
        if (parent / SITE_FILE).is_file():
            return f"it lies inside the site folder {parent}; name that one"
    missing = [name for name in (SITE_FILE, TABLE_NAME) if not (path / name).is_file()]
    entries = sum(1 for _ in path.iterdir())
    lacks = f"{' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} missing"
    return f"a site folder has {SITE_FILE} and {TABLE_NAME} at its top, here {lacks} " + (
        f"among {entries} entries; write it, or name another folder" if entries else "and the folder is empty"
    )


def _read_settings(path: Path) -> _SiteFile:
    try:
        raw = parse_toml(path.read_text(encoding="utf-8-sig"))
        return _SiteFile.model_validate(raw)
    except (OSError, UnicodeDecodeError) as error:
        raise SiteError(f"{path} cannot be read as UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise SiteError(f"{path} is not valid TOML: {error}") from None
    except ValidationError as error:
        # Without the input, which may be the key.
        faults = [_explain(item) for item in error.errors(include_input=False)]
        raise SiteError(f"{path}: {'; '.join(faults)}") from None


def _explain(item: Any) -> str:
    parts = [str(part) for part in item["loc"]]
    where = ".".join(parts)
    if item["type"] != "extra_forbidden":
        return f"'{where}': {str(item['msg']).removeprefix('Value error, ')}"
    sections: dict[tuple[str, ...], list[str]] = {
        (): list(_SiteFile.model_fields),
        ("site",): list(_Site.model_fields),
    }
    names = sections[tuple(parts[:-1])]
    near = difflib.get_close_matches(parts[-1], names, n=1, cutoff=0.4)
    return f"unknown key '{where}'; " + (f"did you mean '{near[0]}'?" if near else f"valid here: {', '.join(names)}")


def _read_or_make_key(site: Path) -> bytes:
    """Random key of a site whose `site.toml` has none; it is kept in the user's data folder, readable only by the user.

    Its name is a hash of the folder's path, so a folder that is moved gets new pseudonyms unless its `site.toml`
    contains the key.
    """
    try:
        folder = Path(os.environ.get("FEDBREAST_HOME") or "~/.local/share/fedbreast").expanduser() / "keys"
    except RuntimeError as error:
        raise SiteError("this account has no home to keep the pseudonym key in: set FEDBREAST_HOME") from error
    if folder.resolve().is_relative_to(site):
        raise SiteError(f"FEDBREAST_HOME lies inside the site folder {site}, which is only read; choose another place")
    target = folder / f"{hashlib.sha256(os.fsencode(site)).hexdigest()[:32]}.key"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not target.exists():
            # Of two processes at once both read the first one's key. Not every home has hard links for that.
            lock = folder.parent / ".keys.lock"
            with hold_lock(lock, f"another process holds {lock}: end it first", _PATIENCE_S):
                if not target.exists():
                    write_atomically(target, secrets.token_bytes(_KEY_BYTES), mode=0o600, durable=True)
        key = target.read_bytes()
    except OSError as error:
        raise SiteError(f"cannot keep the pseudonym key at {target}: {error.strerror}; set FEDBREAST_HOME") from error
    if len(key) != _KEY_BYTES:
        raise SiteError(f"the pseudonym key at {target} is damaged; restore it, or remove it to get new pseudonyms")
    return key


def pseudonym(folder: SiteFolder, row: CaseRow) -> str:
    """Pseudonym of a case: `<site>-<patient>-<exam>-<L|R>`, safe in file names.

    Patient (10 hexadecimal digits) and exam with modality (6) are HMAC-SHA-256 (RFC 2104) with the site's key, so that
    nobody without the key can test a list of patients against it.
    """
    patient = _digest(folder, "patient", row.patient_id)[:10]
    exam = _digest(folder, "exam", row.patient_id, row.exam, row.modality)[:6]
    return f"{folder.name}-{patient}-{exam}-{row.side[0].upper()}"


def patient_of(key: str) -> str:
    """The part of a case's pseudonym that stands for the patient: `<site>-<patient>`."""
    return key.rsplit("-", 2)[0]


def _digest(folder: SiteFolder, *parts: str) -> str:
    return hmac.new(folder.pseudonym_key, "\x1f".join(parts).encode(), hashlib.sha256).hexdigest()
