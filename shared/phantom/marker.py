"""What a phantom's folder was made with: `phantom.json`, the identity of each patient, and whole files or none.

Benign patients came later: without any, the marker and every identity read as they did before there could be some, so
that folders made then are still known as complete.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from shared.errors import ConfigError
from shared.phantom.centres import CENTRES
from shared.phantom.exam import PhantomSettings

MARKER = "phantom.json"
VERSION = 1  # of the generator: a change that alters pictures must raise it
BENIGN_VERSION = 2  # of what it makes of benign patients, where there are some
_ABSENT = {"cases_benign": 0}  # settings that an older marker lacks, with what they were


def write_marker(root: Path, settings: PhantomSettings, *, complete: bool) -> None:
    """Say what `root` is being made with, and whether it is whole."""
    named = {name: value for name, value in asdict(settings).items() if (name, value) not in _ABSENT.items()}
    marker = {"version": _version(settings), "settings": named, "complete": complete}
    write_atomically(root / MARKER, json.dumps(marker, indent=1))


def is_complete(root: Path, settings: PhantomSettings) -> bool:
    """Say whether `root` already holds the wanted federation whole.

    Raises
    ------
    ConfigError
        It holds one of other settings, or of another version of the generator.

    """
    try:
        marker = json.loads((root / MARKER).read_text())
    except FileNotFoundError:
        return False
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{MARKER} in the phantom's folder cannot be read: delete the folder or choose another"
        ) from error
    old, new = _ABSENT | marker.get("settings", {}), asdict(settings)
    differing = [f"{name} {old.get(name)!r} there, {new[name]!r} wanted" for name in new if old.get(name) != new[name]]
    if marker.get("version") != _version(settings):
        differing.append(f"generator version {marker.get('version')!r} there, {_version(settings)} here")
    if differing:
        raise ConfigError(
            f"the phantom's folder holds other data ({'; '.join(differing)}), and results would mix the two: "
            "delete that folder or choose another"
        )
    return bool(marker.get("complete")) and all(
        (root / centre.site / "cases.csv").exists() for centre in CENTRES.values()
    )


def _version(settings: PhantomSettings) -> int | str:
    return f"{VERSION}, benign {BENIGN_VERSION}" if settings.cases_benign else VERSION


def patient_identity(settings: PhantomSettings, key: str, index: int) -> str:
    """Text that UIDs and the patient's record are bound to: all that decides the patient's pictures."""
    benign = f"|benign {BENIGN_VERSION}" if settings.is_benign(key, index) else ""
    return f"{VERSION}|{settings.seed}|{settings.shift}|{settings.separation}|{key}|{index}{benign}"


def write_atomically(path: Path, text: str) -> None:
    """Write a file by a rename: it appears whole or not at all."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
