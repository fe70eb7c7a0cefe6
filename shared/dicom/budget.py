"""What a site's files may take in memory, decided from their headers and lengths before anything is decoded.

A small file may claim, or inflate to, any size. Every reader of images and masks asks here first; what is over the
budget costs the case, with the reason.
"""

from __future__ import annotations

import io
import os
import re
import stat
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import _CharLS  # pyjpegls has no other name for the function that reads a header alone
import pydicom
from PIL import Image
from pydicom.encaps import generate_frames
from pydicom.filereader import _read_file_meta_info, read_dataset, read_partial, read_preamble
from pydicom.tag import Tag
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSTransferSyntaxes,
    RLELossless,
)

from shared.errors import StudyError

GB = 1 << 30
MOST_EXAM = 2 * GB
"""Bytes of all phases of an exam in float32, with one volume as it is decoded."""
MOST_MASK = GB
"""Bytes of a mask while it is decoded."""
MOST_FRAME = 1 << 28
"""Bytes of one DICOM frame while it is decoded."""
MOST_HEADER = 1 << 19
"""Bytes of a DICOM header up to the last tag that an index of images needs."""
SPARE = 1 << 20
"""Bytes of a DICOM file beside its pixels: vendors' own tags take some 100 kB. Compression adds less than that."""
_CHUNK = 1 << 16
SPACING_MM = 0.05, 50.0
MOST_TILES = 1024
"""Of a JPEG 2000 frame: a decoder takes 7 kB for each before it reads the first."""
_SIZE = re.compile(rb"\xff\x4f\xff\x51.{4}(.{32})", re.DOTALL)
"""The start of a JPEG 2000 codestream: ends and starts of the image and of its tiles (ISO 15444-1, A.5.1)."""
_FRAMES = {JPEGExtended12Bit: {0xC0, 0xC1}, JPEGLossless: {0xC3}, JPEGLosslessSV1: {0xC3}}
"""Markers of the frames of the JPEG kinds that Pillow does not know (ITU-T T.81, table B.1)."""
_ANY_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_READ = {JPEG2000, JPEG2000Lossless, JPEGBaseline8Bit, *_FRAMES, *JPEGLSTransferSyntaxes, RLELossless}
_RLE_GROWTH = 64  # two bytes become at most 128 (PS3.5 G.3.1)
_RLE_NOTHING = 128  # the control byte that stands for no run


class BoundedFile(io.BufferedReader):
    """A file of which so many bytes can be read; what is only passed over does not count."""

    def __init__(self, path: Path, most: int) -> None:
        # Not blocking: to open a pipe would wait for whoever writes into it.
        super().__init__(io.FileIO(path, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)))
        self._left = most
        if not stat.S_ISREG(os.fstat(self.fileno()).st_mode):
            self.close()
            raise StudyError("unreadable_file", "a pipe or device stands in the place of a file; put a file there")

    def read(self, size: int | None = -1, /) -> bytes:
        """As of any file; `StudyError` (`unreadable_file`) where more than the bound has been read."""
        most = self._left + 1
        data = super().read(most if size is None or size < 0 else min(size, most))
        self._left -= len(data)
        if self._left < 0:
            raise StudyError("unreadable_file", "a file holds far more than its image; export it again")
        return data


def read_tags(path: Path, tags: Sequence[str | int], stop_at: int, most: int) -> pydicom.Dataset:
    """Tags of a DICOM file before the tag `stop_at`, of which at most `most` bytes are read, or inflated.

    Raises `StudyError` (`unreadable_file`): more bytes, or no file. Junk raises any exception.
    """
    stop: Callable[[int, str | None, int], bool] = lambda tag, _vr, _length: tag >= stop_at  # noqa: E731
    wanted = [Tag(tag) if isinstance(tag, str) else tag for tag in tags]
    with BoundedFile(path, most) as stream:
        read_preamble(stream, force=False)
        meta = _read_file_meta_info(stream)
        if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
            stream.seek(0)
            return read_partial(stream, stop_when=stop, specific_tags=wanted)
        plain = io.BytesIO(_inflated(stream, min(most, MOST_FRAME + SPARE)))
    dataset = read_dataset(plain, is_implicit_VR=False, is_little_endian=True, stop_when=stop, specific_tags=wanted)
    dataset.file_meta = meta
    return dataset


def _inflated(stream: BoundedFile, most: int) -> bytes:
    """At most so many bytes of a deflated dataset (PS3.5 A.5); what is cut off here is missed by whoever needs it."""
    inflater, plain = zlib.decompressobj(-zlib.MAX_WBITS), bytearray()
    for _ in range(most // _CHUNK - 1):  # a stream is hardly ever longer than what it holds
        chunk = stream.read(_CHUNK)
        if not chunk or len(plain) >= most:
            break
        plain += inflater.decompress(chunk, most - len(plain))
    return bytes(plain)


def check_volumes(voxels: int, phases: int, beside: int, most: int = MOST_EXAM) -> None:
    """Refuse an exam of so many phases of so many voxels if it is over the budget.

    A voxel takes 4 bytes a phase, and so many `beside` them while one phase is read. Raises `StudyError`
    (`unreadable_file`).
    """
    needed = voxels * (4 * phases + beside)
    if needed > most:
        raise StudyError(
            "unreadable_file",
            f"its headers claim {needed / GB:.1f} GB in memory, and {most / GB:.0f} GB are the most: if that is no "
            "damage, export the images with fewer or coarser slices, masks as whole numbers of 8 bits",
        )


def check_spacing(spacing: Sequence[float]) -> None:
    """Refuse voxels of a size that no scanner makes: `StudyError` (`no_pixel_spacing`).

    What is computed of them later has a size in millimetres, and so would take any number of voxels.
    """
    finest, coarsest = SPACING_MM
    if not all(finest <= step <= coarsest for step in spacing):
        told = " x ".join(f"{step:.3g}" for step in spacing)
        raise StudyError("no_pixel_spacing", f"voxels of {told} mm are in no MRI; write the true spacing into it")


def check_frames(dataset: Any, frames: int) -> None:
    """Refuse DICOM frames that decode to other sizes than Rows x Columns x SamplesPerPixel, before they are decoded.

    The sizes are those of the compressed streams' own headers, as the decoders themselves read them.

    Raises
    ------
    StudyError
        `unreadable_file`. A header that cannot be read raises any exception, as decoding would.

    """
    rows, columns, samples = int(dataset.Rows), int(dataset.Columns), int(dataset.get("SamplesPerPixel", 1))
    size = rows * columns * samples * max(1, int(dataset.BitsAllocated) // 8)
    if size > MOST_FRAME:
        raise StudyError("unreadable_file", f"a frame claims {size >> 20} MB, {MOST_FRAME >> 20} MB are the most")
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    if not syntax.is_encapsulated:
        return
    if syntax not in _READ:
        what = f"pixels compressed as {syntax.name} are not read; export them uncompressed"
        raise StudyError("unreadable_file", what)
    count = 0
    for frame in generate_frames(dataset.PixelData, number_of_frames=frames):
        count += 1
        if syntax == RLELossless:
            _check_runs(frame, size)
        if len(frame) > 2 * size + SPARE:
            raise StudyError("unreadable_file", f"a compressed frame has {len(frame) >> 20} MB; export it uncompressed")
        if syntax != RLELossless and _claimed(frame, syntax) != (columns, rows, samples):
            raise StudyError("unreadable_file", "a compressed frame has another size than its header says")
    if count != frames:
        raise StudyError("unreadable_file", f"{count} compressed frames stand where the header says {frames}")


def _check_runs(frame: bytes, size: int) -> None:
    """Refuse an RLE frame that inflates beyond its pixels and beyond the budget of a frame (PS3.5 G.3 to G.5)."""
    if len(frame) * _RLE_GROWTH <= MOST_FRAME:
        return  # as nearly all slices: to go through the runs takes as long as decoding them
    count, *offsets = struct.unpack_from("<16L", frame)
    ends = [*offsets[1:count], len(frame)]
    inflated = 0
    for start, end in zip(offsets[:count], ends, strict=True):
        at = start
        while at < end and inflated <= size + SPARE:
            control = frame[at]
            if control < _RLE_NOTHING:
                inflated, at = inflated + control + 1, at + control + 2
            elif control > _RLE_NOTHING:
                inflated, at = inflated + 257 - control, at + 2
            else:
                at += 1
    if inflated > size + SPARE:
        raise StudyError("unreadable_file", "a compressed frame inflates beyond its pixels; export it uncompressed")


def _claimed(frame: bytes, syntax: UID) -> tuple[int, int, int]:
    """Columns, rows and samples that a JPEG, JPEG 2000 or JPEG-LS stream says it holds; pixels are not decoded."""
    if syntax in JPEGLSTransferSyntaxes:
        facts = _CharLS.read_header(frame)
        return facts["width"], facts["height"], facts["components"]
    if syntax in _FRAMES:
        return _claimed_by_marker(frame, _FRAMES[syntax])
    for sizes in _SIZE.findall(frame):
        right, bottom, _, _, wide, high, left, top = struct.unpack(">8L", sizes)
        if (right - left) * (bottom - top) > MOST_TILES * wide * high:
            raise StudyError("unreadable_file", "a JPEG 2000 frame of far too many tiles; export it uncompressed")
    with Image.open(io.BytesIO(frame), formats=("JPEG", "JPEG2000")) as image:
        if "progressive" in image.info:  # a few bytes a scan, and each goes over the whole image
            raise StudyError("unreadable_file", "a progressive JPEG, which DICOM does not have; export it uncompressed")
        return *image.size, len(image.getbands())


def _claimed_by_marker(frame: bytes, markers: set[int]) -> tuple[int, int, int]:
    """As `_claimed` of a JPEG with a frame of such a marker; `IndexError` or `struct.error` where it is cut off."""
    at = 2  # behind the start of image stand segments: marker, length, content
    while frame[at + 1] not in markers:
        if frame[at + 1] in _ANY_FRAME:  # a progressive one costs time, see above
            raise StudyError("unreadable_file", "a JPEG that is none of the kind that its header names")
        at += 2 + struct.unpack_from(">H", frame, at + 2)[0]
    rows, columns, samples = struct.unpack_from(">HHB", frame, at + 5)
    return columns, rows, samples
