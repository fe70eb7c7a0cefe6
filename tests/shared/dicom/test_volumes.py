"""NIfTI and NRRD volumes: what is read of them, and what is refused."""

import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from shared.dicom.volumes import read_volume
from shared.errors import StudyError
from tests.images import to_image


def reason(function, *args, **kwargs):
    with pytest.raises(StudyError) as caught:
        function(*args, **kwargs)
    return caught.value.reason


def test_scenario_20_an_identity_affine_is_not_a_millimetre(tmp_path):
    image = sitk.GetImageFromArray(np.ones((4, 5, 6), np.float32))
    image.SetDirection((-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0))  # NIfTI's identity, as BreastDCEDL writes it
    sitk.WriteImage(image, str(tmp_path / "a.nii"))
    assert reason(read_volume, tmp_path / "a.nii") == "no_pixel_spacing"


def test_scenario_20_an_affine_that_is_not_set_is_refused(exam, tmp_path):
    path = tmp_path / "a.nii"
    sitk.WriteImage(to_image(exam.volume[0].astype(np.float32), exam.grid), str(path))
    data = bytearray(path.read_bytes())
    data[252:256] = bytes(4)  # qform_code, sform_code of the NIfTI-1 header
    path.write_bytes(data)
    assert reason(read_volume, path) == "no_pixel_spacing"


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_scenario_19_a_truncated_volume_is_refused(exam, tmp_path, suffix, share):
    path = tmp_path / f"a{suffix}"
    # SimpleITK alone gives voxels it never read: the sound file before leaves them in memory.
    sitk.WriteImage(to_image(exam.volume[0].astype(np.float32), exam.grid), str(path), useCompression=suffix != ".nii")
    assert read_volume(path)[0].shape == exam.volume.shape[1:]
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert reason(read_volume, path) == "unreadable_file"


def test_scenario_19_a_flipped_byte_in_a_compressed_volume_is_refused(exam, tmp_path):
    path = tmp_path / "a.nii.gz"
    sitk.WriteImage(to_image(exam.volume[0].astype(np.float32), exam.grid), str(path))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)
    assert reason(read_volume, path) == "unreadable_file"


def test_scenario_27_a_compressed_volume_longer_than_its_header_says_is_not_inflated(exam, tmp_path):
    path = tmp_path / "a.nii.gz"
    sitk.WriteImage(to_image(exam.volume[0].astype(np.float32), exam.grid), str(tmp_path / "a.nii"))
    path.write_bytes(gzip.compress((tmp_path / "a.nii").read_bytes() + bytes(50 * 2**20)))
    assert reason(read_volume, path) == "unreadable_file"


def test_a_big_endian_volume_reads_alike(exam, tmp_path):
    import nibabel

    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(np.dtype(">i2"))
    affine = np.diag([-1.25, -1.5, 2.0, 1.0])
    affine[:3, 3] = [6.0, -4.0, -10.0]  # RAS of the exam's LPS origin
    image = nibabel.Nifti1Image(exam.volume[0].transpose(2, 1, 0).astype(">i2"), affine, header)
    nibabel.save(image, tmp_path / "a.nii.gz")
    array, grid = read_volume(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(array, exam.volume[0])
    assert grid.same_space(exam.grid, tolerance_mm=1e-4)


HEAD = b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 4 4 4\nencoding: raw\n"


@pytest.fixture
def nrrd_beside_a_secret(tmp_path):
    """Write an NRRD file beside another file, which SimpleITK alone would read where the header names it."""
    (tmp_path / "secret.raw").write_bytes(bytes(range(1, 65)))

    def write(more):
        (tmp_path / "a.nrrd").write_bytes(HEAD + more)
        return tmp_path / "a.nrrd"

    return write


@pytest.mark.parametrize(
    "more",
    [
        b"data file: secret.raw\n",
        b"DATA FILE: secret.raw\n\n",
        b"datafile: secret.raw\n\n",
        b"data file: LIST\nsecret.raw\n\n",
        b"# a comment\rdata file: secret.raw\n\n",  # it ends a line there, too
        b"key:=value\rdata file: secret.raw\n\n",
        b"type: uint8\r\ndatafile: secret.raw\r\n\r\n",
        b"byte skip: -1\n\n",
        b"line skip: 3\n\n",
    ],
)
def test_an_nrrd_header_that_names_other_data_than_its_own_is_refused(nrrd_beside_a_secret, more):
    path = nrrd_beside_a_secret(more + bytes(64))
    with pytest.raises(StudyError, match="names another file as its data"):
        read_volume(path)


def test_an_nrrd_header_that_names_a_pipe_does_not_wait_for_it(nrrd_beside_a_secret, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert reason(read_volume, nrrd_beside_a_secret(b"data file: pipe\n\n")) == "unreadable_file"
    (tmp_path / "b.nrrd").symlink_to(tmp_path / "pipe")
    for name in ("b.nrrd", "pipe"):
        assert reason(read_volume, tmp_path / name) == "unreadable_file"


@pytest.mark.parametrize(
    "more", [b"", b"# data file: secret.raw\n", b"data file:=secret.raw\nKinds: domain domain domain\n"]
)
def test_an_nrrd_header_with_comments_keys_and_its_own_data_is_read(nrrd_beside_a_secret, more):
    values, grid = read_volume(nrrd_beside_a_secret(more + b"\n" + bytes(range(100, 164))))
    assert values.ravel().tolist() == list(range(100, 164))
    assert grid.shape == (4, 4, 4)


def test_a_header_without_an_end_is_refused(nrrd_beside_a_secret):
    assert reason(read_volume, nrrd_beside_a_secret(b"#" * (2 << 20) + b"\n\n")) == "unreadable_file"


def test_another_format_under_the_name_of_a_volume_is_refused(exam, tmp_path):
    """SimpleITK alone picks the format by the content."""
    for name in ("a.nrrd", "a.nii"):
        (tmp_path / name).write_bytes((exam.write(tmp_path / "exam") / "0").read_bytes())
        assert reason(read_volume, tmp_path / name) == "unreadable_file"


def test_an_offset_that_no_header_has_is_refused(exam, tmp_path):
    path = tmp_path / "a.nii"
    sitk.WriteImage(to_image(exam.volume[0].astype(np.float32), exam.grid), str(path))
    for offset in (float("inf"), float("nan"), -1.0, 1e9):
        data = bytearray(path.read_bytes())
        struct.pack_into("<f", data, 108, offset)
        (tmp_path / "b.nii").write_bytes(data)
        assert reason(read_volume, tmp_path / "b.nii") == "unreadable_file"


def test_volumes_that_are_not_sound_are_refused(exam, tmp_path):
    bad = exam.volume[0].astype(np.float32)
    bad[2, 2, 2] = np.nan
    sitk.WriteImage(to_image(bad, exam.grid), str(tmp_path / "nan.nrrd"))
    flat = sitk.GetImageFromArray(np.ones((3, 4), np.float32))
    flat.SetSpacing((2.0, 2.0))
    sitk.WriteImage(flat, str(tmp_path / "flat.nii"))
    (tmp_path / "junk.nrrd").write_bytes(b"NRRD0005\njunk")
    sitk.WriteImage(to_image(exam.volume[0], exam.grid), str(tmp_path / "other.mha"))
    for name in ("nan.nrrd", "flat.nii", "junk.nrrd", "other.mha", "absent.nii.gz"):
        assert reason(read_volume, tmp_path / name) == "unreadable_file"


@pytest.mark.parametrize("folder", [b"K\xf6ln", b"plain"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".NII.GZ", ".nrrd"])
def test_a_name_that_is_no_utf_8_is_read(exam, tmp_path, folder, suffix):
    """SimpleITK alone ends the process."""
    here = Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + folder))
    here.mkdir()
    path = here / os.fsdecode(b"M\xfcller_0000" + suffix.encode())
    plain = tmp_path / f"a{suffix.lower()}"
    sitk.WriteImage(to_image(exam.volume[0].astype(np.float32), exam.grid), str(plain))
    plain.rename(path)
    np.testing.assert_array_equal(read_volume(path)[0], exam.volume[0])
    path.write_bytes(path.read_bytes()[:200])
    assert reason(read_volume, path) == "unreadable_file"
