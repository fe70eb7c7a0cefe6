"""What is wanted of a DICOM dataset with deep sequences, such as the functional groups of a multi-frame object.

Hundreds of frames have some kilobytes of tags each, most of them a vendor's own. pydicom makes objects of all: a second
and a hundred megabytes an exam, or any number for a hostile file. Here the rest is passed over (PS3.5 7.1 and 7.5).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

UNDEFINED = 0xFFFF_FFFF
PIXEL_DATA = 0x7FE0_0010
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFE_E000, 0xFFFE_E00D, 0xFFFE_E0DD
_LONG = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"})
_DEEPEST = 16
_LONGEST = 1 << 12  # bytes of a value that is kept
_CREATORS = range(0x10, 0x100)

Key = int | tuple[str, int]
"""A tag, or a private one as its creator with the tag in that creator's block 0, as 0x2005000E for (2005,xx0E)."""
Wanted = Mapping[Key, Any]
"""Keys of values with None, keys of sequences with what is wanted of their items."""
Got = dict[Key, Any]
"""Keys of values with `(VR, bytes)`, keys of sequences with a list of what their items hold."""


@dataclass
class Walk:
    """A walk through the bytes of a dataset, which raises `ValueError` or `struct.error` where they are damaged.

    `most_items` are kept of a sequence, and one of a sequence within another. `at` is where the walk stands, `order`
    `<` or `>` for the file's numbers.
    """

    data: bytes
    order: str
    explicit: bool
    most_items: int
    at: int = 0

    def to_pixels(self, wanted: Wanted) -> tuple[Got, int]:
        """What is wanted before the pixels, and how many bytes they have; the walk then stands where they begin."""
        got = self._dataset(len(self.data), wanted, self.explicit, 0)
        tag, _, length = self._head(self.explicit)
        if tag != PIXEL_DATA:
            raise ValueError("no pixels")
        return got, length

    def _head(self, explicit: bool) -> tuple[int, str, int]:
        """Tag, VR and length of an element; the walk then stands where its value begins."""
        group, number = struct.unpack_from(f"{self.order}HH", self.data, self.at)
        vr = self.data[self.at + 4 : self.at + 6].decode("latin-1")
        # Some writers change to implicit VR within a sequence.
        if group == _ITEM >> 16 or not explicit or not (vr.isascii() and vr.isalpha() and vr.isupper()):
            vr, form, start = "", "L", 4
        elif vr in _LONG:
            form, start = "L", 8
        else:
            form, start = "H", 6
        (length,) = struct.unpack_from(self.order + form, self.data, self.at + start)
        self.at += start + struct.calcsize(self.order + form)
        return group << 16 | number, vr, length

    def _dataset(self, end: int, wanted: Wanted, explicit: bool, depth: int) -> Got:
        got: Got = {}
        creators: dict[int, str] = {}
        while self.at < end:
            start = self.at
            tag, vr, length = self._head(explicit)
            if tag == _ITEM_END:
                break
            if tag == PIXEL_DATA and not depth:
                self.at = start
                break
            key: Key = tag
            if tag >> 16 & 1:
                key = creators.get(tag >> 8 & 0xFF, ""), tag & 0xFFFF_00FF
            inside = wanted.get(key)
            if length == UNDEFINED or inside is not None:
                items = self._items(length, inside or {}, explicit and vr != "UN", depth + 1)
                if inside is not None:
                    got[key] = items
                continue
            if self.at + length > len(self.data):
                raise ValueError("cut off")
            value = self.data[self.at : self.at + length] if length <= _LONGEST else b""
            if tag >> 16 & 1 and tag & 0xFFFF in _CREATORS:
                creators[tag & 0xFF] = value.decode("latin-1").strip(" \0")
            elif key in wanted:
                got[key] = vr, value
            self.at += length
        return got

    def _items(self, length: int, wanted: Wanted, explicit: bool, depth: int) -> list[Got]:
        end = len(self.data) if length == UNDEFINED else self.at + length
        if end > len(self.data) or depth > _DEEPEST:
            raise ValueError("cut off, or deeper than any object")
        kept: list[Got] = []
        while self.at < end:
            tag, _, size = self._head(explicit)
            if tag == _SEQUENCE_END:
                break
            if tag != _ITEM:
                raise ValueError("no item")
            item_end = end if size == UNDEFINED else self.at + size
            if wanted or size == UNDEFINED:
                got = self._dataset(item_end, wanted, explicit, depth)
                if wanted and len(kept) < (self.most_items if depth == 1 else 1):
                    kept.append(got)
            if size != UNDEFINED:
                self.at = item_end
        return kept
