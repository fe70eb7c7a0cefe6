"""The walk through a dataset gives what pydicom gives, and passes over the rest without keeping it."""

import io
import struct

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from shared.dicom.functional_groups import PIXEL_DATA, UNDEFINED, Walk
from tests.memory import peak_mb
from tests.shared.dicom.enhanced_exam import undefined_lengths

POSITION, SPACING, ECHO, NAME = 0x0020_0032, 0x0028_0030, 0x0018_9082, 0x0010_0010
FRAMES, PLANE, ICON = 0x5200_9230, 0x0020_9113, 0x0088_0200
OWNER = ("AN OWNER", 0x2005_000E)
WANTED = {SPACING: None, ECHO: None, FRAMES: {POSITION: None, PLANE: {POSITION: None, OWNER: None}, OWNER: None}}


def stored(ds, *, implicit, order="<"):
    """The dataset's bytes, with six bytes of pixels at the end."""
    ds.PixelData = b"PIXELS"
    ds["PixelData"].VR = "OW"
    stream = pydicom.filebase.DicomIO(io.BytesIO())
    stream.is_implicit_VR, stream.is_little_endian = implicit, order == "<"
    pydicom.filewriter.write_dataset(stream, ds)
    return stream.parent.getvalue()


def plain(got):
    """The walk's values without their VR."""
    return {key: [plain(item) for item in value] if isinstance(value, list) else value[1] for key, value in got.items()}


def oracle(ds, wanted, order, most):
    """The same by pydicom: text padded to an even length, numbers in the file's order."""
    expected = {}
    for key, inside in wanted.items():
        if isinstance(key, tuple):
            try:
                element = ds.private_block(0x2005, key[0])[key[1] & 0xFF]
            except KeyError:
                continue
            expected[key] = struct.pack(f"{order}f", element.value)
        elif key in ds and inside is None:
            value = ds[key].value
            if ds[key].VR == "FD":
                expected[key] = struct.pack(f"{order}d", value)
            else:
                text = "\\".join(str(part) for part in value).encode()
                expected[key] = text + b" " * (len(text) % 2)
        elif key in ds:
            items = list(ds[key].value)[:most]
            expected[key] = [oracle(item, inside, order, 1) for item in items]
    return expected


numbers = st.lists(st.integers(-999, 999).map(float), min_size=3, max_size=3)


@st.composite
def datasets(draw, depth=2):
    ds = Dataset()
    if draw(st.booleans()):
        ds.ImagePositionPatient = draw(numbers)
    if draw(st.booleans()):
        ds.PixelSpacing = draw(numbers)[:2]
    if draw(st.booleans()):
        ds.EffectiveEchoTime = draw(st.floats(0, 100))
    if draw(st.booleans()):
        ds.PatientName = draw(st.text("ABC", max_size=9))
    for owner in draw(st.lists(st.sampled_from(["AN OWNER", "ANOTHER", "A THIRD"]), max_size=3, unique=True)):
        ds.private_block(0x2005, owner, create=True).add_new(0x0E, "FL", draw(st.integers(0, 99)))
    if depth:
        for keyword in draw(
            st.lists(
                st.sampled_from(["PerFrameFunctionalGroupsSequence", "PlanePositionSequence", "IconImageSequence"]),
                unique=True,
            )
        ):
            setattr(ds, keyword, draw(st.lists(datasets(depth=depth - 1), max_size=3)))
    return ds


@given(datasets(), st.booleans(), st.booleans(), st.sampled_from("<>"))
def test_what_is_wanted_is_what_pydicom_reads(ds, implicit, delimiters, order):
    if delimiters:
        undefined_lengths(ds)
    implicit = implicit and order == "<"
    data = stored(ds, implicit=implicit, order=order)
    walk = Walk(data, order, not implicit, 2)
    got, length = walk.to_pixels(WANTED)
    assert plain(got) == oracle(ds, WANTED, order, most=2)
    assert data[walk.at : walk.at + length] == b"PIXELS"


def test_a_sequence_of_an_unknown_kind_is_walked_through():
    """UN of undefined length holds implicit VR (PS3.5 6.2.2), and compressed icons hold anything."""
    item = b"\xfe\xff\x00\xe0" + struct.pack("<L", UNDEFINED)
    value = struct.pack("<HHL", 0x0020, 0x0032, 6) + b"1\\2\\3 "
    ends = b"\xfe\xff\x0d\xe0" + bytes(4), b"\xfe\xff\xdd\xe0" + bytes(4)
    unknown = struct.pack("<HH2sHL", 0x0029, 0x1010, b"UN", 0, UNDEFINED) + item + value + ends[0] + ends[1]
    icon = struct.pack("<HH2sHL", 0x0088, 0x1000, b"OB", 0, UNDEFINED) + b"\xfe\xff\x00\xe0" + struct.pack("<L", 4)
    icon += b"\xfe\xff\x0d\xe0" + ends[1]
    after = struct.pack("<HH2sH", 0x0028, 0x0030, b"DS", 4) + b"1\\2 "
    pixels = struct.pack("<HH2sHL", PIXEL_DATA >> 16, PIXEL_DATA & 0xFFFF, b"OW", 0, 0)
    walk = Walk(unknown + icon + after + pixels, "<", explicit=True, most_items=1)
    assert walk.to_pixels(WANTED) == ({SPACING: ("DS", b"1\\2 ")}, 0)


@pytest.mark.parametrize("depth", [3, 40, 100_000])
def test_depth_is_bounded(depth):
    head = (
        struct.pack("<HH2sHL", 0x0029, 0x1010, b"SQ", 0, UNDEFINED) + b"\xfe\xff\x00\xe0" + struct.pack("<L", UNDEFINED)
    )
    ends = b"\xfe\xff\x0d\xe0" + bytes(4) + b"\xfe\xff\xdd\xe0" + bytes(4)
    pixels = struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, 0)
    walk = Walk(head * depth + ends * depth + pixels, "<", explicit=True, most_items=1)
    if depth == 3:
        assert walk.to_pixels({}) == ({}, 0)
    else:
        with pytest.raises(ValueError, match="deeper"):
            walk.to_pixels({})


@given(datasets(), st.data())
def test_any_flipped_byte_is_read_or_refused(ds, data):
    changed = bytearray(stored(ds, implicit=data.draw(st.booleans())))
    for place in data.draw(st.lists(st.integers(0, len(changed) - 1), min_size=1, max_size=4)):
        changed[place] = data.draw(st.integers(0, 255))
    try:
        Walk(bytes(changed), "<", data.draw(st.booleans()), 10).to_pixels(WANTED)
    except (ValueError, struct.error):
        return


def test_what_is_not_wanted_takes_no_memory():
    setup = """
        import struct
        from shared.dicom.functional_groups import UNDEFINED, Walk
        item = b"\\xfe\\xff\\x00\\xe0" + bytes(4)
        ends = b"\\xfe\\xff\\xdd\\xe0" + bytes(4)
        pixels = struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, 0)
        def sequence(tag):
            return struct.pack("<HH2sHL", tag >> 16, tag & 0xFFFF, b"SQ", 0, UNDEFINED) + item * 500_000 + ends
        data = sequence(0x0029_1010) + sequence(0x5200_9230) + pixels
    """
    code = """
        got, _ = Walk(data, "<", True, 9).to_pixels({0x5200_9230: {0x0020_0032: None}})
        assert got == {0x5200_9230: [{}] * 9}
    """
    assert peak_mb(setup, code) < 5
