"""A federation of phantom hospitals on disk: `centre-a` to `centre-c` train, `centre-d` is external.

Each is a site folder like any hospital's: `site.toml`, `cases.csv`, images under `dicom/`, masks under `masks/`, and a
`preview.png`. Beside them `phantom.json` names the settings. Every patient appears whole or not at all.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock

from shared.errors import ConfigError
from shared.phantom.centres import CENTRES
from shared.phantom.exam import PhantomExam, PhantomSettings, make_exam
from shared.phantom.workers import open_pool, run_all

__all__ = ["PhantomExam", "PhantomSettings", "generate_federation", "make_exam"]

MARKER = "phantom.json"
VERSION = 1  # of the generator: a change that alters pictures must raise it
_RECORDS = ".phantom"  # one JSON a finished patient: its row of the table and the settings it was made with
_PREVIEW_ROWS = 6


def generate_federation(
    root: Path,
    settings: PhantomSettings,
    *,
    on_progress: Callable[[int, int], None] | None = None,
    workers: int | None = None,
) -> None:
    """Write the federation below `root`; finished patients are kept, so a stopped run goes on where it was.

    Parameters
    ----------
    on_progress
        Called with (patients ready, patients in all).
    workers
        Processes; default one a core. With more than one, the calling script needs a `__main__` guard.

    Raises
    ------
    ConfigError
        `root` holds a phantom federation of other settings, or a site that is no phantom.

    """
    total = _total(settings)
    if is_complete(root, settings):
        if on_progress:
            on_progress(total, total)
        return
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / ".phantom.lock"):
        _clear_the_ground(root)
        _write_marker(root, settings, complete=False)
        missing = [(key, index) for key, index in _tasks(settings) if _finished(root, key, index, settings) is None]
        done = total - len(missing)
        if on_progress:
            on_progress(done, total)
        with open_pool(min(workers or os.cpu_count() or 1, max(len(missing), 1))) as pool:
            for _ in run_all(pool, make_patient, [(root, key, index, settings) for key, index in missing]):
                done += 1
                if on_progress:
                    on_progress(done, total)
            for _ in run_all(pool, write_site, [(root, key, settings) for key in CENTRES]):
                pass
        _write_marker(root, settings, complete=True)


def _write_marker(root: Path, settings: PhantomSettings, *, complete: bool) -> None:
    marker = {"version": VERSION, "settings": asdict(settings), "complete": complete}
    _write_atomically(root / MARKER, json.dumps(marker, indent=1))


def _clear_the_ground(root: Path) -> None:
    """Remove what a killed run left half made; refuse to write over a site that is no phantom."""
    for centre in CENTRES.values():
        site = root / centre.site
        if (site / "cases.csv").exists() and not (site / _RECORDS).is_dir():
            raise ConfigError(f"{centre.site} already holds a site that is no phantom: choose another folder")
        for leftover in site.glob(".making-*"):
            shutil.rmtree(leftover)


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
    old, new = marker.get("settings", {}), asdict(settings)
    differing = [f"{name} {old.get(name)!r} there, {new[name]!r} wanted" for name in new if old.get(name) != new[name]]
    if marker.get("version") != VERSION:
        differing.append(f"generator version {marker.get('version')!r} there, {VERSION} here")
    if differing:
        raise ConfigError(
            f"the phantom's folder holds other data ({'; '.join(differing)}), and results would mix the two: "
            "delete that folder or choose another"
        )
    return bool(marker.get("complete")) and all(
        (root / centre.site / "cases.csv").exists() for centre in CENTRES.values()
    )


def _tasks(settings: PhantomSettings) -> Iterator[tuple[str, int]]:
    for key in CENTRES:
        for index in range(settings.cases_external if key == "D" else settings.cases_per_site):
            yield key, index


def _total(settings: PhantomSettings) -> int:
    return sum(1 for _ in _tasks(settings))


def _identity(settings: PhantomSettings, key: str, index: int) -> str:
    """Text that UIDs and the patient's record are bound to: all that decides the patient's pictures."""
    return f"{VERSION}|{settings.seed}|{settings.shift}|{settings.separation}|{key}|{index}"


def _record_path(root: Path, key: str, index: int) -> Path:
    return root / CENTRES[key].site / _RECORDS / f"{index:04d}.json"


def _folder_name(identity: str) -> str:
    return "case-" + hashlib.sha256(identity.encode()).hexdigest()[:10]


def _finished(root: Path, key: str, index: int, settings: PhantomSettings) -> dict[str, str] | None:
    """Row of a patient who is whole on disk and made with these settings, else None."""
    identity = _identity(settings, key, index)
    site = root / CENTRES[key].site
    try:
        record = json.loads(_record_path(root, key, index).read_text())
        row: dict[str, str] = record["row"]
        whole = record["identity"] == identity and (site / row["path"]).is_dir() and (site / row["mask"]).is_file()
    except (OSError, ValueError, KeyError):
        return None
    return row if whole else None


def make_patient(root: Path, key: str, index: int, settings: PhantomSettings) -> None:
    """Write one patient: images and masks each by a rename, then the record that says they are whole."""
    from shared.phantom.dicom_writer import study_date, write_series
    from shared.phantom.masks import write_lesion, write_mask

    site, identity = root / CENTRES[key].site, _identity(settings, key, index)
    name = _folder_name(identity)
    exam = make_exam(key, index, settings)
    site.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".making-", dir=site))
    try:
        sources = write_series(work / "dicom", exam, identity)
        write_lesion(work / "masks" / "lesion.dcm", exam, sources, identity)
        write_mask(work / "masks" / "breast.nii.gz", exam.breast, exam.grid)
        write_mask(work / "masks" / "fibroglandular.nii.gz", exam.fibroglandular, exam.grid)
        for kind in ("masks", "dicom"):
            target = site / kind / name
            shutil.rmtree(target, ignore_errors=True)
            target.parent.mkdir(exist_ok=True)
            (work / kind).rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    record = {"identity": identity, "row": _row(exam, study_date(exam), name)}
    _record_path(root, key, index).parent.mkdir(exist_ok=True)
    _write_atomically(_record_path(root, key, index), json.dumps(record, indent=1))


def _row(exam: PhantomExam, date: str, name: str) -> dict[str, str]:
    """The patient's line of `cases.csv`."""
    labels, centre = exam.labels, CENTRES[exam.centre]
    return {
        "patient_id": exam.patient_id,
        "exam": date,
        "side": exam.side,
        "modality": "MR",
        "path": f"dicom/{name}",
        "mask": f"masks/{name}/lesion.dcm",
        "breast_mask": f"masks/{name}/breast.nii.gz",
        "fibroglandular_mask": f"masks/{name}/fibroglandular.nii.gz",
        "er": str(int(labels.er)),
        "pr": str(int(labels.pr)),
        "her2": "0" if labels.her2_ihc == 0 else f"{labels.her2_ihc}+",
        "her2_fish": "" if labels.her2_fish is None else ("positive" if labels.her2_fish else "negative"),
        "ki67_percent": f"{labels.ki67_percent:.0f}",
        "subtype": labels.subtype,
        "malignant": "1",
        "age": str(labels.age),
        "density": labels.density,
        "manufacturer": centre.manufacturer,
        "field_strength_t": str(centre.field_strength_t),
        "lesion_diameter_mm": f"{exam.latents.diameter_mm:.1f}",
        "phantom": "1",
    }


def write_site(root: Path, key: str, settings: PhantomSettings) -> None:
    """Write what stands beside the images: the table, the site's file and the preview."""
    from shared.phantom.montage import draw_montage

    site = root / CENTRES[key].site
    indices = [index for centre, index in _tasks(settings) if centre == key]
    rows = [row for index in indices if (row := _finished(root, key, index, settings)) is not None]
    table = io.StringIO()
    writer = csv.DictWriter(table, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    _write_atomically(site / "cases.csv", table.getvalue())
    secret = hashlib.sha256(f"phantom pseudonym key|{settings.seed}|{key}".encode()).hexdigest()
    _write_atomically(
        site / "site.toml",
        f'[site]\nname = "{site.name}"\npseudonym_key = "{secret}"\nkind = "phantom"\n\n[policy]\n'
        "max_excluded_share = 1.0\n",
    )
    preview = site / ".preview.png"
    draw_montage([make_exam(key, index, settings) for index in indices[:_PREVIEW_ROWS]], preview, settings.seed)
    preview.replace(site / "preview.png")


def _write_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
