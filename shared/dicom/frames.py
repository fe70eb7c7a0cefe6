"""The stored pixels of a multi-frame file, one frame at a time: as a file of that frame alone would have them."""

from __future__ import annotations

import bisect
import struct
from typing import Any

import pydicom
from pydicom.encaps import encapsulate

from shared.dicom.budget import MOST_FRAME, SPARE, BoundedFile
from shared.dicom.functional_groups import UNDEFINED
from shared.dicom.header import FileHeader
from shared.errors import StudyError

_ITEM = b"\xfe\xff\x00\xe0"
_MOST_FRAGMENTS = 16
"""Of a frame, on average."""


class FramesOfFile:
    """Where the frames of a file lie; `tags` are those of its pixels, with its transfer syntax.

    Raises `StudyError` (`unreadable_file`) where there are fewer frames than the header says; junk raises anything.
    """

    def __init__(self, header: FileHeader, tags: pydicom.Dataset) -> None:
        frame = header.frame
        if frame is None:
            raise ValueError("a file of one frame")
        self._path, self._tags = header.path, tags
        bits = int(tags.BitsAllocated)
        size = int(tags.Rows) * int(tags.Columns) * int(tags.get("SamplesPerPixel", 1)) * max(1, bits // 8)
        self._most = 2 * min(size, MOST_FRAME) + SPARE
        if frame.pixels_length == UNDEFINED:
            self._pieces = _pieces(header)
            return
        if frame.pixels_length < size * header.frames:
            raise StudyError("unreadable_file", f"a file has fewer pixels than its {header.frames} frames need")
        self._pieces = [[(frame.pixels_at + size * number, size)] for number in range(header.frames)]

    def read(self, index: int) -> Any:
        """Dataset of one frame, with its stored pixels."""
        if sum(length for _, length in self._pieces[index]) > self._most:
            raise StudyError("unreadable_file", "a compressed frame has far more bytes than pixels")
        pixels = b""
        with BoundedFile(self._path, self._most) as stream:
            for start, length in self._pieces[index]:
                stream.seek(start)
                pixels += stream.read(length)
        alone = pydicom.Dataset(self._tags)
        alone.file_meta = self._tags.file_meta
        alone.NumberOfFrames = 1
        compressed = alone.file_meta.TransferSyntaxUID.is_encapsulated
        alone.add_new(0x7FE0_0010, "OB" if compressed else "OW", encapsulate([pixels]) if compressed else pixels)
        return alone


def _pieces(header: FileHeader) -> list[list[tuple[int, int]]]:
    """Places and lengths of the fragments of each compressed frame (PS3.5 A.4), found without reading them."""
    fragments: list[tuple[int, int]] = []
    at = header.frame.pixels_at if header.frame else 0
    most = 2 + _MOST_FRAGMENTS * header.frames
    with BoundedFile(header.path, 8 * most + 4 * header.frames) as stream:
        for _ in range(most):
            stream.seek(at)
            head = stream.read(8)
            if head[:4] != _ITEM:
                break
            (length,) = struct.unpack_from("<L", head, 4)
            fragments.append((at + 8, length))
            at += 8 + length
        (start, length), *fragments = fragments
        if len(fragments) == header.frames:
            return [[fragment] for fragment in fragments]
        if length != 4 * header.frames:
            raise StudyError("unreadable_file", f"{len(fragments)} compressed pieces for {header.frames} frames")
        stream.seek(start)
        offsets = struct.unpack(f"<{header.frames}L", stream.read(length))
    if offsets[0] or list(offsets) != sorted(offsets):
        raise StudyError("unreadable_file", "a table of compressed frames that is out of order; export it uncompressed")
    first = start + length
    frames: list[list[tuple[int, int]]] = [[] for _ in offsets]
    for begin, size in fragments:
        frames[bisect.bisect_right(offsets, begin - 8 - first) - 1].append((begin, size))
    return frames
