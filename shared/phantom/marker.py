"""The settings that a phantom's folder was made with (`phantom.json`), and the identity of each patient.

Benign patients, mammograms and densities of a centre were added later. Without any, marker and identities are what they
were before, so that folders made then still count as complete. Mammograms change no identity: the MRI beside them is
the same.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from shared.atomic_files import write_atomically
from shared.errors import ConfigError
from shared.phantom.centres import CENTRES
from shared.phantom.settings import PhantomSettings

MARKER = "phantom.json"
LOCK = ".phantom.lock"
RECORDS = ".phantom"
"""At a centre: a JSON file for each complete patient, the row of the table and the identity it was made with."""
VERSION = 1  # version of the generator: a change that alters images must raise it
BENIGN_VERSION = 2  # version of the benign patients, counted where there are some
MAMMOGRAM_VERSION = 1  # version of the mammograms, counted where there are some
_ABSENT = {
    "cases_benign": 0,
    "mammograms": False,
    "densities": {},
}  # settings that an older marker lacks, with the values they had


def write_marker(root: Path, settings: PhantomSettings, *, complete: bool) -> None:
    """Write the settings that `root` is made with, and whether it is complete."""
    named = {name: value for name, value in asdict(settings).items() if (name, value) not in _ABSENT.items()}
    marker = {"version": _version(settings), "settings": named, "complete": complete}
    write_atomically(root / MARKER, json.dumps(marker, indent=1).encode())


def is_complete(root: Path, settings: PhantomSettings) -> bool:
    """Say whether `root` already holds the complete federation with these settings.

    Raises
    ------
    ConfigError
        It holds one with other settings or of another version of the generator, or it holds something else: a
        hospital's data must not come to lie among phantoms.

    """
    try:
        marker = json.loads((root / MARKER).read_text())
    except FileNotFoundError:
        if root.is_dir() and not all(_is_ours(path) for path in root.iterdir()):
            raise ConfigError(f"'{root.name}' holds files that are no phantom: choose another folder") from None
        return False
    except (OSError, ValueError) as error:
        raise ConfigError(f"'{root.name}/{MARKER}' cannot be read: choose another folder for the phantom") from error
    old, new = _ABSENT | marker.get("settings", {}), asdict(settings)
    differences = [
        f"{name} {old.get(name)!r} there, {new[name]!r} wanted" for name in new if old.get(name) != new[name]
    ]
    if marker.get("version") != _version(settings):
        differences.append(f"generator version {marker.get('version')!r} there, {_version(settings)} here")
    if differences:
        raise ConfigError(
            f"'{root.name}' holds another phantom ({'; '.join(differences)}), and results would mix the two: "
            "choose another folder"
        )
    return bool(marker.get("complete")) and all(
        (root / centre.site / "cases.csv").exists() for centre in CENTRES.values()
    )


def _is_ours(path: Path) -> bool:
    """Whether a phantom's folder may hold it: a centre, or the lock and the draft of a marker that a kill leaves."""
    centre = path.name in {item.site for item in CENTRES.values()} and (path / RECORDS).is_dir()
    return centre or path.name.startswith(".phantom.")


def _version(settings: PhantomSettings) -> int | str:
    added = f", benign {BENIGN_VERSION}" if settings.cases_benign else ""
    added += f", mammograms {MAMMOGRAM_VERSION}" if settings.mammograms else ""
    return f"{VERSION}{added}" if added else VERSION


def patient_identity(settings: PhantomSettings, key: str, index: int) -> str:
    """Text that stands for everything that determines a patient's images; UIDs are hashes of it."""
    benign = f"|benign {BENIGN_VERSION}" if settings.is_benign(key, index) else ""
    only = settings.densities.get(CENTRES[key].site, "")
    density = f"|density {only}" if only else ""
    return f"{VERSION}|{settings.seed}|{settings.shift}|{settings.separation}|{key}|{index}{benign}{density}"
