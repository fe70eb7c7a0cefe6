"""Scan a folder for the headers of all DICOM files, in any nesting and with any name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shared.dicom.budget import BoundedFile
from shared.dicom.header import FileHeader, parse_header
from shared.errors import StudyError

DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".ima", ".dc3"})
ARCHIVE_SUFFIXES = frozenset({".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar", ".zst"})
_HEAD_BYTES = 2048


@dataclass(frozen=True, slots=True)
class Fault:
    """A file that cannot be used, in a scan of a folder with several studies."""

    path: Path = field(repr=False)
    error: StudyError


def index_folder(folder: Path) -> list[FileHeader]:
    """Headers of all DICOM files in the folder of one study, sorted by path.

    Raises
    ------
    StudyError
        `no_images`: the folder does not exist. `unreadable_file`: a file named `.dcm` that is empty, truncated or not
        DICOM; an archive; a link that leads out of the folder. Files that are clearly not DICOM are ignored.

    """
    headers, faults = scan_folder(folder)
    if faults:
        raise faults[0].error
    return headers


def scan_folder(folder: Path) -> tuple[list[FileHeader], list[Fault]]:
    """As `index_folder` for a folder with several studies: files that cannot be used are returned instead of raised."""
    if not folder.is_dir():
        raise StudyError("no_images", "the folder named by the row does not exist")
    headers: list[FileHeader] = []
    faults: list[Fault] = []
    for path in _walk(folder.resolve()):
        try:
            header = read_header(path)
        except StudyError as error:
            faults.append(Fault(path, error))
        else:
            if header is not None:
                headers.append(header)
    return headers, faults


def read_headers(files: Sequence[Path]) -> list[FileHeader]:
    """Headers of the given files without those that are clearly not DICOM; raises as `index_folder`."""
    headers = (read_header(path) for path in files)
    return [header for header in headers if header is not None]


def read_header(path: Path) -> FileHeader | None:
    """Header of one file, or None if it is clearly not DICOM (README, DICOMDIR, PNG, ...); raises as `index_folder`."""
    suffix = path.suffix.lower()
    if path.is_symlink():
        raise StudyError("unreadable_file", "a link stands in the place of a file or folder; put the file itself there")
    if suffix in ARCHIVE_SUFFIXES and not path.name.lower().endswith(".nii.gz"):
        raise StudyError("unreadable_file", "an archive lies among the images; unpack it and take it away")
    try:
        with BoundedFile(path, _HEAD_BYTES) as stream:
            head = stream.read(_HEAD_BYTES)
    except OSError as error:
        raise StudyError("unreadable_file", f"the system refused to read a file: {error.strerror}") from None
    if head[128:132] != b"DICM":
        # A file without a DICOM suffix is suspicious only if it is empty, as after an interrupted copy.
        if suffix in DICOM_SUFFIXES or (not head and not suffix and not path.name.startswith(".")):
            raise StudyError("unreadable_file", _describe_stranger(head))
        return None
    return parse_header(path)


def _describe_stranger(head: bytes) -> str:
    """Describe what a `.dcm` file without the DICM mark contains, with the remedy."""
    start = head.lstrip()[:64].lower()
    if not head:
        return "a DICOM file is empty; fetch it again"
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"{")):
        return "a DICOM file holds a web page or message, a failed download; fetch it again"
    return "a file named as DICOM lacks the DICM mark; it is damaged or of another format"


def list_files(folder: Path) -> list[Path]:
    """All files below a folder, sorted, without links, pipes and devices."""
    return [path for path in _walk(folder.resolve()) if path.is_file() and not path.is_symlink()]


def _walk(root: Path) -> Iterator[Path]:
    """Files below `root` in sorted order, without links to files inside it; links that lead out are included."""
    for here, folders, names in os.walk(root):
        folders.sort()
        for name in sorted([*names, *(item for item in folders if Path(here, item).is_symlink())]):
            path = Path(here, name)
            if not path.is_symlink() or not path.resolve().is_relative_to(root):
                yield path
