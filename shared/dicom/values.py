"""Values of tags as text and numbers, from their bytes: pydicom's own conversion warns with the value in its words.

What is no value of its kind is empty or None, never an error.
"""

from __future__ import annotations

import math
import re
import struct
import unicodedata
from typing import Any

from pydicom.charset import convert_encodings, decode_bytes, python_encoding
from pydicom.datadict import dictionary_VR
from pydicom.multival import MultiValue
from pydicom.valuerep import TEXT_VR_DELIMS

_BINARY = {"FD": "d", "FL": "f", "US": "H", "SS": "h", "UL": "L", "SL": "l"}
_LONGEST = 1 << 16
_SURE = frozenset({"GB18030", "GBK", "ISO_IR 13"})
"""Character sets in which text may pass for UTF-8."""
_HIGHEST_TESLA = 100.0
_OFFSET = re.compile(r"[+-]\d{4}$")
_DAY = 24, 60, 61  # hours, minutes, seconds with a leap second


def text_of(element: Any, charset: str = "") -> str:
    """Text of an element, multiple values separated by backslashes as in DICOM; empty if it is None or has no text."""
    if element is None or element.VR == "SQ":
        return ""
    value = element.value
    if isinstance(value, bytes):
        order = "<" if getattr(element, "is_little_endian", True) else ">"
        return text_of_bytes(int(element.tag), element.VR, value, order, charset)
    if value is None:
        return ""
    return "\\".join(str(item) for item in value) if isinstance(value, (list, MultiValue)) else str(value)


def text_of_bytes(tag: int, vr: str | None, value: bytes, order: str, charset: str = "") -> str:
    """Text of a value as it is stored; `vr` is what the file says, `order` `<` or `>` for its numbers."""
    if len(value) > _LONGEST:
        return ""
    kind = vr if vr and vr != "UN" else dictionary_VR(tag)
    if kind not in _BINARY:
        return decode(value, charset)
    form = f"{order}{_BINARY[kind]}"
    if len(value) % struct.calcsize(form):
        return ""
    return "\\".join(repr(item[0]) for item in struct.iter_unpack(form, value))


def decode(value: bytes, charset: str) -> str:
    """Text of bytes by SpecificCharacterSet (PS3.5 6.1), which files lack or name wrongly: UTF-8, then Latin-1.

    Text that is no ASCII and yet UTF-8 is hardly ever anything else, whatever the file says. Composed as NFC.
    """
    if value.isascii() and b"\x1b" not in value:
        return value.decode("ascii").strip(" \0\r\n\t")
    terms = [term.strip() for term in charset.split("\\")]
    if b"\x1b" in value:
        text = decode_bytes(value, convert_encodings(terms), TEXT_VR_DELIMS)
    else:
        said = python_encoding.get(terms[0]) or "utf-8"
        codecs = (said, "utf-8", "latin-1") if terms[0] in _SURE else ("utf-8", said, "latin-1")
        text = next(text for codec in codecs if (text := _strictly(value, codec)) is not None)
    return unicodedata.normalize("NFC", text).strip(" \0\r\n\t")


def _strictly(value: bytes, codec: str) -> str | None:
    try:
        return value.decode(codec)
    except (UnicodeDecodeError, LookupError):
        return None


def numbers(text: str) -> tuple[float, ...]:
    """Numbers in a text with backslashes; empty if any of them is no finite number."""
    try:
        values = tuple(float(part) for part in text.split("\\"))
    except ValueError:
        return ()
    return values if all(math.isfinite(value) for value in values) and "_" not in text else ()


def exactly(values: tuple[float, ...], count: int) -> tuple[float, ...] | None:
    """The numbers, None if they are not so many."""
    return values if len(values) == count else None


def time_of_day(text: str) -> float | None:
    """Seconds since midnight of a DICOM TM value, `HHMMSS.ffffff` or the retired `HH:MM:SS` (PS3.5 6.2)."""
    digits, _, fraction = _OFFSET.sub("", text.strip()).replace(":", "").partition(".")
    fraction = fraction[: len(fraction) - len(fraction.lstrip("0123456789"))]
    if not digits.isdecimal() or not digits.isascii() or len(digits) not in {2, 4, 6}:
        return None
    parts = [int(digits[at : at + 2] or 0) for at in (0, 2, 4)]
    if any(part >= bound for part, bound in zip(parts, _DAY, strict=True)):
        return None
    return parts[0] * 3600.0 + parts[1] * 60.0 + parts[2] + float(f"0.{fraction or 0}")


def tesla(value: float | None) -> float | None:
    """Field strength in tesla; some old scanners wrote gauss."""
    if value is None or value <= 0:
        return None
    return value / 10_000.0 if value > _HIGHEST_TESLA else value


def normalise_manufacturer(text: str) -> str:
    """Vendor for stratified reports: one of a closed list, `unknown` if blank, `OTHER` for all others."""
    upper = text.upper()
    if not upper.strip():
        return "unknown"
    for vendor in ("SIEMENS", "PHILIPS", "TOSHIBA", "CANON", "HITACHI", "FUJIFILM", "HOLOGIC", "UNITED IMAGING"):
        if vendor in upper:
            return vendor
    return "GE" if upper.strip() == "GE" or upper.startswith(("GE ", "GE_", "GEMS", "GENERAL ELECTRIC")) else "OTHER"
