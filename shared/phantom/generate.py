"""Write a federation of phantom hospitals: `centre-a` to `centre-c` train, `centre-d` is the external centre.

Each centre is a site folder like that of a hospital: `site.toml`, `cases.csv`, images under `dicom/`, masks under
`masks/`, and a `preview.png`. `phantom.json` beside the folders holds the settings. A patient is on disk completely or
not at all. Patients with a benign index lesion, where there are any, follow those with cancer. Where there are
mammograms, the rows of a patient's breasts follow that of the MRI, and `preview-mammograms.png` shows some.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from shared.atomic_files import write_atomically
from shared.errors import ConfigError
from shared.phantom.benign import BenignLabels
from shared.phantom.biology import Labels
from shared.phantom.centres import CENTRES
from shared.phantom.exam import PhantomExam, make_body, make_exam, scan
from shared.phantom.marker import LOCK, MARKER, RECORDS, is_complete, patient_identity, write_marker
from shared.phantom.settings import PhantomSettings

_PREVIEW_ROWS, _PREVIEW_BENIGN = 6, 3


def generate_federation(
    root: Path,
    settings: PhantomSettings,
    *,
    on_progress: Callable[[int, int], None] | None = None,
    workers: int | None = None,
) -> None:
    """Write the federation below `root`; complete patients are kept, so an interrupted run continues where it stopped.

    Parameters
    ----------
    on_progress
        Called with (complete patients, all patients).
    workers
        Processes; by default one per core. With more than one, the calling script needs a `__main__` guard.

    Raises
    ------
    ConfigError
        `root` holds a phantom federation with other settings, or a site that is no phantom.

    """
    patients = list(_patients(settings))
    total = len(patients)
    if is_complete(root, settings):
        if on_progress:
            on_progress(total, total)
        return
    root.mkdir(parents=True, exist_ok=True)
    with FileLock(root / LOCK):
        _clear_leftovers(root)
        write_marker(root, settings, complete=False)
        missing = [(key, index) for key, index in patients if _complete_rows(root, key, index, settings) is None]
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
        write_marker(root, settings, complete=True)


def remove_phantom(root: Path) -> None:
    """Remove a phantom federation, and nothing else that lies in its folder."""
    for centre in CENTRES.values():
        if (root / centre.site / RECORDS).is_dir():
            shutil.rmtree(root / centre.site)
    for name in (MARKER, LOCK):
        (root / name).unlink(missing_ok=True)


def _clear_leftovers(root: Path) -> None:
    """Remove what a killed run left unfinished; refuse to overwrite a site that is no phantom."""
    for centre in CENTRES.values():
        site = root / centre.site
        if (site / "cases.csv").exists() and not (site / RECORDS).is_dir():
            raise ConfigError(f"{centre.site} already holds a site that is no phantom: choose another folder")
        for leftover in site.glob(".making-*"):
            shutil.rmtree(leftover)


def _patients(settings: PhantomSettings) -> Iterator[tuple[str, int]]:
    for key in CENTRES:
        for index in range(settings.cancers_at(key) + settings.cases_benign):
            yield key, index


def _record_path(root: Path, key: str, index: int) -> Path:
    return root / CENTRES[key].site / RECORDS / f"{index:04d}.json"


def _complete_rows(root: Path, key: str, index: int, settings: PhantomSettings) -> list[dict[str, str]] | None:
    """Rows of a patient who is complete on disk and was made with these settings, else None."""
    identity = patient_identity(settings, key, index)
    site = root / CENTRES[key].site
    try:
        record = json.loads(_record_path(root, key, index).read_text())
        rows: list[dict[str, str]] = [record["row"], *(record["mammograms"] if settings.mammograms else ())]
        whole = record["identity"] == identity and all(_has_files(site, row) for row in rows)
    except (OSError, ValueError, KeyError):
        return None
    return rows if whole else None


def _has_files(site: Path, row: dict[str, str]) -> bool:
    return (site / row["path"]).is_dir() and (not row["mask"] or (site / row["mask"]).exists())


def make_patient(root: Path, key: str, index: int, settings: PhantomSettings) -> None:
    """Write one patient: rename images and masks into place, then write the record that they are complete."""
    from shared.phantom.dicom_writer import study_date, write_series
    from shared.phantom.masks import write_lesion, write_mask

    site, identity = root / CENTRES[key].site, patient_identity(settings, key, index)
    name = "case-" + hashlib.sha256(identity.encode()).hexdigest()[:10]
    body = make_body(key, index, settings)
    exam = scan(body, settings)
    row = _row(exam, study_date(exam), name)
    record: dict[str, object] = {"identity": identity, "row": row}
    site.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".making-", dir=site))
    try:
        sources = write_series(work / "dicom" / name, exam, identity)
        masks = work / "masks" / name
        write_lesion(masks / "lesion.dcm", exam, sources, identity)
        write_mask(masks / "breast.nii.gz", exam.breast, exam.grid)
        write_mask(masks / "fibroglandular.nii.gz", exam.fibroglandular, exam.grid)
        if settings.mammograms:
            from shared.phantom.mammogram_cases import write_mammograms

            record["mammograms"] = write_mammograms(work, body, settings, identity=identity, name=name, row=row)
        for kind in ("masks", "dicom"):
            for folder in (work / kind).iterdir():
                target = site / kind / folder.name
                shutil.rmtree(target, ignore_errors=True)
                target.parent.mkdir(exist_ok=True)
                folder.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    write_atomically(_record_path(root, key, index), json.dumps(record, indent=1).encode())


def _row(exam: PhantomExam, date: str, name: str) -> dict[str, str]:
    """The patient's row of `cases.csv`."""
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
        **_receptors(labels),
        "malignant": str(int(isinstance(labels, Labels))),
        "age": str(labels.age),
        "density": labels.density,
        "manufacturer": centre.manufacturer,
        "field_strength_t": str(centre.field_strength_t),
        "lesion_diameter_mm": f"{exam.latents.diameter_mm:.1f}",
        "phantom": "1",
    }


def _receptors(labels: Labels | BenignLabels) -> dict[str, str]:
    """Receptors, Ki-67 and subtype of the row: blank for a benign lesion."""
    if isinstance(labels, BenignLabels):
        return dict.fromkeys(("er", "pr", "her2", "her2_fish", "ki67_percent", "subtype"), "")
    return {
        "er": str(int(labels.er)),
        "pr": str(int(labels.pr)),
        "her2": "0" if labels.her2_ihc == 0 else f"{labels.her2_ihc}+",
        "her2_fish": "" if labels.her2_fish is None else ("positive" if labels.her2_fish else "negative"),
        "ki67_percent": f"{labels.ki67_percent:.0f}",
        "subtype": labels.subtype,
    }


def write_site(root: Path, key: str, settings: PhantomSettings) -> None:
    """Write the table, `site.toml` and the preview of a centre."""
    from shared.phantom.montage import draw_montage

    site = root / CENTRES[key].site
    indices = [index for centre, index in _patients(settings) if centre == key]
    rows = [row for index in indices for row in _complete_rows(root, key, index, settings) or ()]
    table = io.StringIO()
    writer = csv.DictWriter(table, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(site / "cases.csv", table.getvalue().encode())
    secret = hashlib.sha256(f"phantom pseudonym key|{settings.seed}|{key}".encode()).hexdigest()
    write_atomically(
        site / "site.toml",
        f'[site]\nname = "{site.name}"\npseudonym_key = "{secret}"\nkind = "phantom"\n'.encode(),
    )
    preview = site / ".preview.png"
    benign = [index for index in indices if settings.is_benign(key, index)][:_PREVIEW_BENIGN]
    shown = indices[: min(_PREVIEW_ROWS - len(benign), settings.cancers_at(key))] + benign
    draw_montage([make_exam(key, index, settings) for index in shown], preview, settings.seed)
    preview.replace(site / "preview.png")
    if settings.mammograms:
        from shared.phantom.mammogram_montage import draw_mammograms

        draw_mammograms([make_body(key, index, settings) for index in shown], preview, settings)
        preview.replace(site / "preview-mammograms.png")


@contextmanager
def open_pool(workers: int) -> Iterator[ProcessPoolExecutor | None]:
    """Open a pool of processes, or none for a single worker; calls that have not begun are dropped after a failure."""
    if workers == 1:
        yield None
        return
    # Never a plain fork: the caller may hold threads of torch. A fork server imports once for all workers.
    servable = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if servable else "spawn")
    if servable:
        context.set_forkserver_preload(["shared.phantom.masks", "shared.phantom.montage"])
    pool = ProcessPoolExecutor(workers, mp_context=context)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def run_all(
    pool: ProcessPoolExecutor | None, function: Callable[..., None], calls: Sequence[tuple[object, ...]]
) -> Iterator[None]:
    """Run all calls and yield after each one that is done."""
    if pool is None:
        for call in calls:
            function(*call)
            yield
        return
    for future in as_completed([pool.submit(function, *call) for call in calls]):
        future.result()
        yield
