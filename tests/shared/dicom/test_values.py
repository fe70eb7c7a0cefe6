"""Values of tags from their bytes: numbers, times, and text in whatever character set."""

import struct

import pytest

from shared.dicom.values import decode, normalise_manufacturer, numbers, tesla, text_of_bytes, time_of_day

B_VALUE, PATIENT_ID = 0x0018_9087, 0x0010_0020


@pytest.mark.parametrize(
    ("stored", "charset", "text"),
    [
        (b"MR-0815 ", "", "MR-0815"),
        ("MÜ-1".encode("latin-1"), "ISO_IR 100", "MÜ-1"),
        ("MÜ-1".encode("latin-1"), "", "MÜ-1"),
        ("MÜ-1".encode("latin-1"), "ISO_IR 192", "MÜ-1"),
        ("MÜ-1".encode("latin-1"), "no such set", "MÜ-1"),
        ("MÜ-1".encode(), "ISO_IR 100", "MÜ-1"),
        ("MÜ-1".encode(), "", "MÜ-1"),
        ("MU\u0308-1".encode(), "ISO_IR 192", "MÜ-1"),  # as some file systems and tools write it
        ("Ю-1".encode("iso8859-5"), "ISO_IR 144", "Ю-1"),
        ("王-1".encode("gb18030"), "GB18030", "王-1"),
        ("王-1".encode("gb18030"), "\\GB18030", "Íõ-1"),  # code extensions do not hold it
        ("山田".encode("iso2022_jp"), "\\ISO 2022 IR 87", "山田"),
    ],
)
def test_text_in_any_character_set(stored, charset, text):
    assert decode(stored, charset) == text


@pytest.mark.parametrize(
    ("vr", "stored", "order", "text"),
    [
        ("FD", struct.pack("<d", 800.0), "<", "800.0"),
        (None, struct.pack(">2d", 800.0, 0.5), ">", "800.0\\0.5"),
        ("UN", struct.pack("<d", 0.0), "<", "0.0"),
        ("DS", b"800.5 ", "<", "800.5"),  # a tool's own kind of value
        ("FD", b"123", "<", ""),
        ("FD", b"", "<", ""),
        ("DS", b"1" * 100_000, "<", ""),
    ],
)
def test_numbers_are_told_by_the_kind_that_the_file_says_or_the_dictionary(vr, stored, order, text):
    assert text_of_bytes(B_VALUE, vr, stored, order) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("101530", 36930.0),
        ("101530.250000", 36930.25),
        ("10:15:30", 36930.0),
        ("1015", 36900.0),
        ("10", 36000.0),
        ("", None),
        ("abc", None),
        ("10153", None),
        ("101530.25+0100", 36930.25),
        ("101530-0500", 36930.0),
        ("101560", 36960.0),  # a leap second
        ("246000", None),
        ("106000", None),
        ("101599", None),
    ],
)
def test_times_of_day(text, seconds):
    assert time_of_day(text) == seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1.5\\-2", (1.5, -2.0)),
        ("3", (3.0,)),
        ("", ()),
        ("1\\x", ()),
        ("nan", ()),
        ("1_0", ()),
        ("1,5", ()),
        ("1\\inf", ()),
    ],
)
def test_numbers_of_a_multi_valued_text(text, expected):
    assert numbers(text) == expected


@pytest.mark.parametrize(("value", "expected"), [(1.5, 1.5), (15_000.0, 1.5), (0.0, None), (-1.0, None), (None, None)])
def test_gauss_become_tesla(value, expected):
    assert tesla(value) == expected


@pytest.mark.parametrize(
    ("text", "vendor"),
    [
        ("GE MEDICAL SYSTEMS", "GE"),
        ("Philips Healthcare", "PHILIPS"),
        ("Generic", "OTHER"),
        ("  ", "unknown"),
        ("Dr. Jane Doe", "OTHER"),
    ],
)
def test_a_vendor_is_one_of_a_closed_list(text, vendor):
    assert normalise_manufacturer(text) == vendor
