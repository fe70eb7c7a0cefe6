"""Mutated headers of classic and enhanced MR and of NIfTI: an exam is refused with a reason, or read clean."""

import contextlib
import functools
import io
import random
import struct

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydicom.dataelem import DataElement

from shared.dicom.masks import read_mask
from shared.errors import StudyError
from shared.modalities.mri.study import read_study
from tests.shared.conftest import ExamWriter
from tests.shared.dicom.enhanced_exam import enhanced, undefined_lengths

BEFORE = np.random.default_rng(3).integers(0, 2000, (3, 4, 5))
EXAM = ExamWriter(np.stack([BEFORE, BEFORE + 200 + BEFORE % 700]).astype(np.uint16))
BROKEN = [
    *(b"", b"abc", b"nan", b"inf", b"1e999", b"-1", b"0", b"1,5", b"1\\2", b"9" * 20, b"1e300", b"-1e308", b"1" * 3000),
    *(b"20211341", b"256199", b"M\xfcller", b"\xff\xfe\xfd", b"\x1b$B;3", b"\0" * 8, b"\0\0\0\0\0\0\xf8\x7f"),
    *(b"ISO_IR 999", b"\\ISO 2022 IR 87", b"1.2.840.10008.1.2.4.57", b"\xff" * 4, b"\x01\x00", b"\xff\xff"),
]
# Without shrinking: the seed already reproduces an example.
KINDS = {
    "few": settings(max_examples=150, phases=[Phase.generate], suppress_health_check=list(HealthCheck)),
    "many": settings(max_examples=10_000, phases=[Phase.generate], suppress_health_check=list(HealthCheck)),
}


def value(rng):
    return rng.choice(BROKEN) if rng.random() < 0.7 else rng.randbytes(rng.randint(0, 24))


def elements(ds):
    """Every element of a dataset, with the dataset it lies in."""
    for element in list(ds):
        yield ds, element
        if element.VR == "SQ":
            for item in element.value:
                yield from elements(item)


def mutate(rng, ds):
    """Break one to three elements: take them out, or put bytes, an empty sequence or an empty item in their place."""
    if rng.random() < 0.2:
        owner = rng.choice([inside for inside, _ in elements(ds)])
        owner.private_block(0x2005, "Philips MR Imaging DD 001", create=True).add_new(0x0E, "OB", value(rng))
    for _ in range(rng.randint(1, 3)):
        inside, element = rng.choice(list(elements(ds)))
        kind = rng.choice(["gone", "bytes", "bytes", "bytes", "text", "sequence", "items"])
        tag = element.tag
        del inside[tag]
        if kind == "bytes":
            inside.add(DataElement(tag, "OB", value(rng)))
        elif kind == "text":
            inside.add(DataElement(tag, "LT", value(rng).decode("latin-1")))
        elif kind == "sequence":
            inside.add(DataElement(tag, "SQ", []))
        elif kind == "items":
            inside.add(DataElement(tag, "SQ", [pydicom.Dataset() for _ in range(rng.randint(1, 3))]))


def flipped(rng, path, first=132):
    """Flip bytes of a file and cut it, now and then."""
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice([0, 0, 1, 2, 3])):
        data[rng.randrange(first, len(data))] = rng.randrange(256)
    if rng.random() < 0.1:
        del data[rng.randrange(first, len(data)) :]
    path.write_bytes(data)


def outcome(read, *arguments):
    """The study that is read, checked to be sound; None where it is refused."""
    try:
        study = read(*arguments)
    except StudyError:
        return None
    assert study.phases.shape == (len(study.times_s), *study.grid.shape)
    assert study.phases.dtype == np.float32
    assert np.isfinite(study.phases).all()
    assert all(later > sooner for sooner, later in zip(study.times_s, study.times_s[1:], strict=False))
    assert study.times_s[0] <= 0 < study.times_s[-1]
    return study


SYNTAXES = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"]


@functools.cache
def files(make, variant, syntax):
    """The bytes of a sound exam's files."""
    written = []
    for ds in make(variant):
        ds.file_meta.TransferSyntaxUID = syntax
        ds["PixelData"].VR = "OW"
        stream = io.BytesIO()
        pydicom.dcmwrite(stream, ds, enforce_file_format=True)
        written.append(stream.getvalue())
    return written


def save(folder, make, rng):
    """Write an exam with one file broken."""
    sound = files(make, rng.randrange(3), rng.choice(SYNTAXES))
    for number, data in enumerate(sound):
        (folder / str(number)).write_bytes(data)
    broken = folder / str(rng.randrange(len(sound)))
    ds = pydicom.dcmread(broken)
    mutate(rng, ds)
    pydicom.dcmwrite(broken, ds, enforce_file_format=False)
    flipped(rng, broken)


@pytest.fixture
def lenient():
    """Write what no sound tool writes."""
    before = pydicom.config.settings.writing_validation_mode
    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
    yield
    pydicom.config.settings.writing_validation_mode = before


def classic(variant):
    return EXAM.datasets(layout=["siemens", "ge", "philips"][variant])


def enhanced_objects(variant):
    options = [{}, {"style": "philips"}, {"scales": [(1.0, 0.5)] * 6}][variant]
    ds = enhanced(EXAM.datasets(), [0, 0, 0, 1, 1, 1], **options)
    return [undefined_lengths(ds) if variant else ds]


def tried(kind, one):
    """How many examples of so many were read and refused."""
    tally = {"read": 0, "refused": 0}

    @KINDS[kind]
    @given(st.integers(0, 2**32))
    def each(seed):
        tally["refused" if one(random.Random(seed)) is None else "read"] += 1

    each()
    print(kind, tally)  # noqa: T201 - for who runs the many
    return tally


@pytest.mark.filterwarnings("ignore:Invalid value for VR", "ignore:The value length")
@pytest.mark.parametrize("make", [classic, enhanced_objects])
@pytest.mark.parametrize("kind", ["few", pytest.param("many", marks=pytest.mark.slow)])
@pytest.mark.usefixtures("lenient")
def test_a_mutated_exam_is_refused_or_read(tmp_path, make, kind):
    def one(rng):
        save(tmp_path, make, rng)
        return outcome(read_study, tmp_path)

    assert min(tried(kind, one).values()) > 10


FIELDS = {
    40: "8h", 70: "2h", 76: "8f", 108: "f", 112: "2f", 123: "b", 252: "2h", 256: "6f", 280: "12f", 0: "i", 344: "4s",
}  # fmt: skip
ODD_FLOATS = [0.0, -1.0, 1e-30, 1e30, float("nan"), float("inf"), -float("inf"), 0.1, 1.5, 348.0, 352.0]


def nifti(order="<"):
    """A volume `(3, 4, 5)` of 16 bits with both affines."""
    head = bytearray(352)
    struct.pack_into(f"{order}i", head, 0, 348)
    struct.pack_into(f"{order}8h", head, 40, 3, 5, 4, 3, 1, 1, 1, 1)
    struct.pack_into(f"{order}2h", head, 70, 4, 16)
    struct.pack_into(f"{order}8f", head, 76, 1, 1.5, 1.5, 2.0, 0, 0, 0, 0)
    struct.pack_into(f"{order}f", head, 108, 352)
    struct.pack_into(f"{order}2h", head, 252, 1, 1)
    struct.pack_into(f"{order}6f", head, 256, 0, 0, 0, 5, 6, 7)
    struct.pack_into(f"{order}12f", head, 280, 1.5, 0, 0, 5, 0, 1.5, 0, 6, 0, 0, 2.0, 7)
    head[344:348] = b"n+1\0"
    return head + np.arange(60, dtype=f"{order}i2").tobytes()


def changed_nifti(rng):
    order = rng.choice("<>")
    data = nifti(order)
    for _ in range(rng.randint(1, 3)):
        start = rng.choice(sorted(FIELDS))
        count, kind = int(FIELDS[start][:-1] or 1), FIELDS[start][-1]
        if kind == "f":
            number = rng.choice(ODD_FLOATS) if rng.random() < 0.7 else rng.uniform(-10, 10)
            struct.pack_into(f"{order}f", data, start + 4 * rng.randrange(count), number)
        elif kind == "h":
            number = rng.choice([0, -1, 1, 2, 4, 16, 64, 128, 512, 32767, rng.randrange(-32768, 32768)])
            struct.pack_into(f"{order}h", data, start + 2 * rng.randrange(count), number)
        else:
            data[start + rng.randrange(4 if kind == "s" else 1)] = rng.randrange(256)
    return data


@pytest.mark.parametrize("kind", ["few", pytest.param("many", marks=pytest.mark.slow)])
def test_a_mutated_nifti_header_is_refused_or_read(tmp_path, kind):
    def one(rng):
        changed = changed_nifti(rng)
        (tmp_path / "a_0000.nii").write_bytes(changed)
        (tmp_path / "a_0001.nii").write_bytes(changed)
        study = outcome(read_study, tmp_path)
        with contextlib.suppress(StudyError):
            read_mask(tmp_path / "a_0000.nii", study.grid if study else EXAM.grid)
        return study

    assert min(tried(kind, one).values()) > 10
