"""Files that claim or inflate to more than the images they are: refused, and before they take the memory."""

import gzip
import io
import os
import re
import struct
import zlib
from contextlib import nullcontext

import jpeg_ls
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from shared.dicom import budget
from shared.dicom.budget import (
    GB,
    MOST_EXAM,
    MOST_FRAME,
    BoundedFile,
    check_frames,
    check_spacing,
    check_volumes,
    read_tags,
)
from shared.dicom.header import parse_header
from shared.dicom.masks import SEGMENTATION_STORAGE
from shared.dicom.pixels import read_pixels
from shared.errors import StudyError
from shared.types import Grid
from tests.memory import peak_mb

GRID = Grid((4, 512, 512), (1.0, 1.0, 1.0))
_EMPTY_ITEM = b"\xfe\xff\x00\xe0" + bytes(4)


def nifti(path, shape, stored=2, bits=8, spacing=0.5):
    """A NIfTI-1 file of zeros, compressed as members of 16 MB: a kilobyte claims a megabyte."""
    head = bytearray(352)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, 3, *shape[::-1], 1, 1, 1, 1)
    struct.pack_into("<2h", head, 70, stored, bits)
    struct.pack_into("<8f", head, 76, 1, *[spacing] * 3, 0, 0, 0, 0)
    struct.pack_into("<f", head, 108, 352)
    struct.pack_into("<2h", head, 252, 0, 1)
    struct.pack_into("<12f", head, 280, spacing, 0, 0, 0, 0, spacing, 0, 0, 0, 0, spacing, 0)
    head[344:348] = b"n+1\0"
    size, piece = int(np.prod(shape)) * bits // 8, 1 << 24
    whole, rest = divmod(size, piece)
    path.write_bytes(gzip.compress(bytes(head)) + gzip.compress(bytes(piece)) * whole + gzip.compress(bytes(rest)))
    return path


def rle(rows, length):
    """An RLE frame of one segment whose runs of two bytes become 128 each."""
    return struct.pack("<16L", 1, 64, *[0] * 14) + b"\x81\x00" * (length // 2)


def seg(path, frame, rows=512, syntax=RLELossless, frames=1):
    """A FRACTIONAL SEG of so many frames, each with these bytes."""
    ds = pydicom.Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = SEGMENTATION_STORAGE[0]
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    ds.Rows = ds.Columns = rows
    ds.NumberOfFrames, ds.SamplesPerPixel, ds.PhotometricInterpretation = frames, 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.SegmentationType, ds.SegmentationFractionalType, ds.MaximumFractionalValue = "FRACTIONAL", "OCCUPANCY", 255
    ds.SegmentSequence = [pydicom.Dataset()]
    ds.SegmentSequence[0].SegmentNumber = 1
    shared = pydicom.Dataset()
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [pydicom.Dataset()], [pydicom.Dataset()]
    shared.PixelMeasuresSequence[0].PixelSpacing = [1.0, 1.0]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.SegmentIdentificationSequence = [pydicom.Dataset()]
    shared.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 1
    ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence = [shared], []
    for number in range(frames):
        group = pydicom.Dataset()
        group.PlanePositionSequence = [pydicom.Dataset()]
        group.PlanePositionSequence[0].ImagePositionPatient = [0.0, 0.0, float(number)]
        ds.PerFrameFunctionalGroupsSequence.append(group)
    ds.PixelData = encapsulate([frame] * frames) if syntax == RLELossless else frame * frames
    ds["PixelData"].VR = "OB"
    pydicom.dcmwrite(path, ds, enforce_file_format=True)
    return path


def slice_of(exam, path, frame, syntax, **tags):
    """The exam's first slice with this compressed frame."""
    ds = exam.datasets()[0]
    ds.file_meta.TransferSyntaxUID = syntax
    for keyword, value in tags.items():
        setattr(ds, keyword, value)
    ds.PixelData = encapsulate(frame if isinstance(frame, list) else [frame])
    ds["PixelData"].VR = "OB"
    pydicom.dcmwrite(path, ds, enforce_file_format=True)
    return path


def jpeg(array, kind, **options):
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, kind, **options)
    return bytearray(stream.getvalue())


def grown(stream, marker, *sides):
    """A JPEG, JPEG-LS or JPEG 2000 stream that says another size: `sides` are (offset, form, value)."""
    start = stream.find(marker)
    for offset, form, value in sides:
        struct.pack_into(form, stream, start + offset, value)
    return bytes(stream)


def codecs(rows=12, columns=10):
    """The slice's own pixels in each compressed form, and the same stream that says a side of 13,000."""
    narrow = np.arange(rows * columns, dtype=np.uint8).reshape(rows, columns)
    wide = narrow.astype(np.uint16) * 34  # 12 bits
    sides = ((5, ">H", 13_000), (7, ">H", 13_000))
    large = ((6, ">L", 13_000), (10, ">L", 13_000), (22, ">L", 13_000), (26, ">L", 13_000))
    eight = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    return {
        "jpeg": (JPEGBaseline8Bit, jpeg(narrow, "JPEG", quality=95), b"\xff\xc0", sides, eight),
        "jpeg-ls": (JPEGLSLossless, bytearray(jpeg_ls.encode_array(wide)), b"\xff\xf7", sides, {}),
        "jpeg-2000": (
            JPEG2000Lossless,
            jpeg(wide, "JPEG2000", no_jp2=True),
            b"\xff\x51",
            large,
            {"BitsStored": 16, "HighBit": 15},
        ),
    }


@pytest.mark.parametrize("name", codecs())
def test_a_compressed_slice_is_read_and_one_that_says_another_size_is_refused(exam, tmp_path, name):
    syntax, stream, marker, sides, tags = codecs()[name]
    path = slice_of(exam, tmp_path / "a", bytes(stream), syntax, **tags)
    values = read_pixels(parse_header(path))
    pixels = np.arange(120).reshape(12, 10)
    np.testing.assert_allclose(values, pixels if name == "jpeg" else 34 * pixels, atol=3 if name == "jpeg" else 0)
    path = slice_of(exam, tmp_path / "a", grown(stream, marker, *sides), syntax, **tags)
    with pytest.raises(StudyError, match="another size than its header says"):
        read_pixels(parse_header(path))


def test_a_lossless_jpeg_is_measured_by_its_own_frame_header():
    ds = pydicom.Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.BitsAllocated = 12, 10, 1, 16
    start = struct.pack(">HHHBHHBBBB", 0xFFD8, 0xFFC3, 11, 16, 12, 10, 1, 1, 0x11, 0)
    ds.PixelData = encapsulate([start + b"\xff\xd9"])
    check_frames(ds, 1)
    ds.Rows = 13
    with pytest.raises(StudyError, match="another size than its header says"):
        check_frames(ds, 1)
    ds.PixelData = encapsulate([bytes(jpeg(np.zeros((13, 10), np.uint8), "JPEG", progressive=True))])
    with pytest.raises(StudyError, match="none of the kind that its header names"):
        check_frames(ds, 1)


def test_a_large_rle_frame_is_measured_run_by_run():
    """A real mammogram has 13 MB as RLE, which could inflate to 800: what counts is what its runs come to."""
    stored = np.random.default_rng(0).integers(0, 4096, (1800, 1500), np.uint16)
    stored[:, 700:] = 0  # runs that repeat, beside others
    ds = pydicom.Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.Rows, ds.Columns = stored.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
    ds.PixelData = stored.tobytes()
    ds["PixelData"].VR = "OW"
    ds.compress(RLELossless, generate_instance_uid=False)
    frame = next(pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=1))
    assert len(frame) * 64 < MOST_FRAME  # this one is not gone through; with runs of nothing it is
    nothing = b"\x80" * (MOST_FRAME // 64)
    ends = (*struct.unpack_from("<3L", frame)[1:], len(frame))
    segments = [frame[ends[0] : ends[1]] + nothing, frame[ends[1] : ends[2]]]
    head = struct.pack("<16L", 2, 64, 64 + len(segments[0]), *[0] * 13)
    ds.PixelData = encapsulate([head + b"".join(segments)])
    check_frames(ds, 1)
    np.testing.assert_array_equal(ds.pixel_array, stored)
    bomb = b"\x81\x00" * (stored.size // 64)  # twice the pixels
    ds.PixelData = encapsulate([head[:64] + segments[0] + bomb + segments[1]])
    with pytest.raises(StudyError, match="inflates beyond its pixels"):
        check_frames(ds, 1)


def test_a_progressive_jpeg_whose_scans_cost_time_is_refused(exam, tmp_path):
    syntax, _, _, _, tags = codecs()["jpeg"]
    scans = jpeg(np.zeros((12, 10), np.uint8), "JPEG", progressive=True)
    with pytest.raises(StudyError, match="a progressive JPEG"):
        read_pixels(parse_header(slice_of(exam, tmp_path / "a", bytes(scans), syntax, **tags)))


@pytest.mark.parametrize(
    ("tile", "words"), [((4, 3), None), ((12, 10), None), ((1, 1), "too many tiles"), ((2**32 - 1, 1), None)]
)
def test_a_jpeg_2000_of_far_too_many_tiles_is_refused(exam, tmp_path, monkeypatch, tile, words):
    monkeypatch.setattr(budget, "MOST_TILES", 100)
    syntax, stream, marker, _, tags = codecs()["jpeg-2000"]
    frame = grown(stream, marker, (22, ">L", tile[0]), (26, ">L", tile[1]))
    ds = pydicom.dcmread(slice_of(exam, tmp_path / "a", frame, syntax, **tags))
    with pytest.raises(StudyError, match=words) if words else nullcontext():
        check_frames(ds, 1)


def test_a_jpeg_2000_of_a_tile_for_each_few_pixels_takes_no_memory(exam, tmp_path):
    stream = jpeg(np.zeros((512, 512), np.uint8), "JPEG2000", no_jp2=True)
    frame = grown(stream, b"\xff\x51", (22, ">L", 1), (26, ">L", 5))
    assert len(frame) < 1000
    tags = {"Rows": 512, "Columns": 512, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7}
    path = slice_of(exam, tmp_path / "a", frame, JPEG2000Lossless, **tags)
    code = """
        try:
            read_pixels(parse_header(path))
        except StudyError as error:
            assert "tiles" in str(error)
    """
    setup = """
        from pathlib import Path
        from shared.dicom.header import parse_header
        from shared.dicom.pixels import read_pixels
        from shared.errors import StudyError
        path = Path(sys.argv[1])
    """
    assert peak_mb(setup, code, path) < 50  # it took 500 MB and three seconds, each slice of it


def test_a_slice_of_more_frames_than_one_is_refused_however_it_says_so(exam, tmp_path):
    syntax, stream, _, _, tags = codecs()["jpeg-ls"]
    path = slice_of(exam, tmp_path / "a", [bytes(stream)] * 50, syntax, **tags)
    with pytest.raises(StudyError, match="50 compressed frames stand where the header says 1"):
        read_pixels(parse_header(path))
    path = slice_of(exam, tmp_path / "a", bytes(stream), syntax, NumberOfFrames=65_535, **tags)
    with pytest.raises(StudyError, match="several frames"):
        read_pixels(parse_header(path))


def test_the_budget_counts_phases_and_what_is_read_beside_them():
    check_volumes(512 * 512 * 200, 9, 4)  # the largest exams there are
    assert 512 * 512 * 200 * 40 < MOST_EXAM == 2 * GB
    with pytest.raises(StudyError, match=r"claim 2\.0 GB in memory, and 2 GB are the most") as caught:
        check_volumes(2 * GB // 40 + 1, 9, 4)
    assert caught.value.reason == "unreadable_file"


@pytest.mark.parametrize("step", [0.0, 1e-6, 0.049, 51.0, float("inf"), float("nan")])
def test_voxels_of_a_size_that_no_scanner_makes_are_refused(step):
    check_spacing((0.05, 50.0, 0.8))
    with pytest.raises(StudyError, match="in no MRI; write the true spacing") as caught:
        check_spacing((1.0, step, 1.0))
    assert caught.value.reason == "no_pixel_spacing"


def test_no_frame_takes_more_than_its_bound():
    ds = pydicom.Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.BitsAllocated = 8192, 8192, 1, 32
    check_frames(ds, 1)
    ds.Rows = 8193
    with pytest.raises(StudyError, match=f"{MOST_FRAME >> 20} MB are the most"):
        check_frames(ds, 1)


def test_a_pipe_is_refused_at_once_and_a_file_gives_no_more_than_its_bound(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(StudyError, match="a pipe or device stands in the place of a file"):
        BoundedFile(tmp_path / "pipe", 10)
    (tmp_path / "file").write_bytes(bytes(1000))
    with BoundedFile(tmp_path / "file", 10) as stream:
        assert len(stream.read(6)) == 6
        stream.seek(900)  # what is passed over does not count
        assert len(stream.read(4)) == 4
        for size in (1, -1, None):
            with pytest.raises(StudyError, match="far more than its image"):
                stream.read(size)


def deflated(ds, path, more=b""):
    """The dataset as a deflated file, with so many more bytes in its stream."""
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    plain = io.BytesIO()
    pydicom.dcmwrite(plain, ds, enforce_file_format=True)
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    whole = io.BytesIO()
    pydicom.dcmwrite(whole, ds, enforce_file_format=True)
    meta = whole.getvalue()[: 144 + struct.unpack_from("<L", whole.getvalue(), 140)[0]]
    dataset = plain.getvalue()[144 + struct.unpack_from("<L", plain.getvalue(), 140)[0] :]
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    path.write_bytes(meta + packer.compress(dataset + more) + packer.flush())
    return path


@pytest.mark.filterwarnings("ignore:The value length")
def test_a_deflated_slice_is_read_wherever_it_says_that_it_is_one(exam, tmp_path):
    for instance in ("1.2", "1." * 2000 + "1"):  # the second puts the syntax beyond the first kilobytes
        ds = exam.datasets()[0]
        ds.file_meta.MediaStorageSOPInstanceUID = instance
        path = deflated(ds, tmp_path / "a")
        assert read_tags(path, ["Rows"], 0x7FE0_0010, 200_000).Rows == 12
        np.testing.assert_array_equal(read_pixels(parse_header(path)), ds.pixel_array)
        path.write_bytes(path.read_bytes()[:-200])
        with pytest.raises(StudyError, match="cut off"):
            read_pixels(parse_header(path))


def test_a_deflated_bomb_takes_no_memory(exam, tmp_path):
    ds = exam.datasets()[0]
    deflated(ds, tmp_path / "after", bytes(1 << 29))  # behind the pixels
    del ds.PixelData
    ds.add_new(0x0009_0010, "LO", "OWNER")
    head = struct.pack("<HH2sHL", 0x0028, 0x0003, b"OB", 0, 1 << 29)
    deflated(ds, tmp_path / "before", head + bytes(1 << 29))
    setup = """
        from pathlib import Path
        from shared.dicom.header import parse_header
        from shared.dicom.pixels import read_pixels
        from shared.errors import StudyError
        folder = Path(sys.argv[1])
    """
    code = """
        assert read_pixels(parse_header(folder / "after")).shape == (12, 10)
        try:
            read_pixels(parse_header(folder / "before"))
        except StudyError as error:
            assert "cut off" in str(error)
        else:
            raise AssertionError
    """
    assert peak_mb(setup, code, tmp_path) < 50


@pytest.mark.parametrize("uid", ["1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.102"])
def test_a_codec_that_is_not_read_is_named(exam, tmp_path, uid):
    path = slice_of(exam, tmp_path / "a", b"1234", uid)
    name = pydicom.uid.UID(uid).name
    with pytest.raises(StudyError, match=re.escape(f"compressed as {name} are not read; export them uncompressed")):
        read_pixels(parse_header(path))


def with_items(exam, path, count):
    """The exam's first slice with a sequence of so many empty items before its size."""
    exam.write(path.parent, exam.datasets()[:1], name=path.name)
    data = path.read_bytes()
    at = data.index(struct.pack("<HH2sH", 0x0028, 0x0002, b"US", 2))
    sequence = struct.pack("<HH2sHL", 0x0021, 0x0012, b"SQ", 0, 0xFFFF_FFFF)
    path.write_bytes(data[:at] + sequence + _EMPTY_ITEM * count + b"\xfe\xff\xdd\xe0" + bytes(4) + data[at:])
    return path


def test_bombs_at_rest_are_refused_and_take_no_memory(exam, tmp_path):
    """Without the budget: 8 GB for the exam, 4 and 5 GB for two masks, 1.5 GB for many frames, 95 s for the items."""
    nifti(tmp_path / "exam_0000.nii.gz", (512, 1024, 1024))
    (tmp_path / "exam_0001.nii.gz").write_bytes((tmp_path / "exam_0000.nii.gz").read_bytes())
    nifti(tmp_path / "mask.nii.gz", (512, 1024, 1024))
    nifti(tmp_path / "wide.nii.gz", (512, 1024, 512), 64, 64)
    (tmp_path / "mask.nrrd").write_bytes(
        b"NRRD0004\ntype: double\ndimension: 3\nsizes: 2048 1024 1024\nencoding: gzip\nendian: little\n\n"
        + gzip.compress(bytes(1 << 24)) * 64
    )
    for phase in range(2):
        nifti(tmp_path / f"fine_{phase:04}.nii.gz", (60, 60, 60), spacing=0.001)
    seg(tmp_path / "seg.dcm", rle(512, 8_400_000))
    seg(tmp_path / "large.dcm", rle(2048, 8_400_000), rows=2048)
    seg(tmp_path / "many.dcm", rle(512, 4096).replace(b"\x81\x00", b"\x81\xff"), frames=2000)  # on 4 slices
    seg(tmp_path / "claims.dcm", rle(8, 8), rows=20_000)
    slice_of(exam, tmp_path / "slice", rle(12, 8_400_000), RLELossless, BitsAllocated=8, BitsStored=8, HighBit=7)
    with_items(exam, tmp_path / "items", 1_000_000)
    for name in ("jpeg-ls", "jpeg-2000"):
        syntax, stream, marker, sides, tags = codecs()[name]
        slice_of(exam, tmp_path / name, grown(stream, marker, *sides), syntax, **tags)
    assert sum(item.stat().st_size for item in tmp_path.iterdir()) < 60 << 20
    setup = "from tests.shared.dicom.test_budget import refuse_all"
    assert peak_mb(setup, "refuse_all(sys.argv[1])", tmp_path) < 100


def test_an_exam_is_read_within_what_was_reckoned(tmp_path):
    for phase in range(4):
        nifti(tmp_path / f"exam_{phase:04}.nii.gz", (64, 512, 512), stored=4, bits=16)
    setup = "from pathlib import Path; from shared.modalities.mri.study import read_study"
    reckoned = 64 * 512 * 512 * (4 * 4 + 2 * 2) / (1 << 20)
    assert reckoned == 320
    assert 256 < peak_mb(setup, "read_study(Path(sys.argv[1]))", tmp_path / "exam") < 1.1 * reckoned


def refuse_all(folder):
    """Read each file as its reader does; `AssertionError` where one is not refused."""
    from pathlib import Path

    from shared.dicom.masks import read_mask
    from shared.modalities.mri.breast_crop import find_breast
    from shared.modalities.mri.study import read_study

    here, refused = Path(folder), {}
    for name in ("mask.nii.gz", "wide.nii.gz", "mask.nrrd", "seg.dcm", "many.dcm", "large.dcm", "claims.dcm"):
        try:
            read_mask(here / name, GRID)
        except StudyError as error:
            refused[name] = error.reason
    for name in ("slice", "items", "jpeg-ls", "jpeg-2000"):
        try:
            read_pixels(parse_header(here / name))
        except StudyError as error:
            refused[name] = error.reason
    for name in ("exam", "fine"):
        try:
            find_breast(read_study(here / name), "left")
        except StudyError as error:
            refused[name] = error.reason
    masks = {"fine": "no_pixel_spacing", "mask.nii.gz": "mask_mismatch", "many.dcm": "mask_mismatch"}
    others = ("wide.nii.gz", "mask.nrrd", "seg.dcm", "large.dcm", "claims.dcm")
    masks |= dict.fromkeys(others, "unreadable_mask")
    slices = dict.fromkeys(("slice", "items", "jpeg-ls", "jpeg-2000", "exam"), "unreadable_file")
    assert refused == masks | slices, refused
