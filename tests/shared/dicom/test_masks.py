"""Masks on the study's voxels: SEG in any order and orientation, NIfTI, NRRD; scenarios 28 and 29; the real files."""

import highdicom
import nrrd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.sr.codedict import codes

from shared.dicom.masks import read_mask
from shared.dicom.volumes import read_volume
from shared.errors import StudyError
from shared.types import Grid
from tests.images import to_image

PLANES = ["axial", "axial_descending", "axial_turned", "axial_mirrored", "sagittal", "sagittal_mirrored", "coronal"]


@pytest.fixture
def lesion(exam):
    mask = np.zeros(exam.volume.shape[1:], bool)
    mask[2:4, 5:9, 1:6] = True
    mask[4, 3, 7] = True
    return mask


def describe(number):
    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=f"part {number}",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Neoplasm,
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
    )


def write_seg(path, exam, mask, *, plane="axial", kind="BINARY", segments=1, omit=True, shuffle=False):
    """SEG by highdicom on the pre-contrast slices; the mask is stored as those slices are, voxel by voxel."""
    stored = type(exam)(np.stack([mask.astype(np.uint16)] * 3)).datasets(plane=plane)
    sources = exam.datasets(plane=plane)[: len(stored) // 3]
    pixels = np.stack([ds.pixel_array for ds in stored[: len(sources)]]).astype(np.uint8)
    if kind == "FRACTIONAL":
        pixels = pixels * 0.75 + 0.1
    if kind == "LABELMAP":
        segments = int(pixels.max())
    elif segments > 1:
        pixels = np.stack([np.roll(pixels, number, axis=0) for number in range(segments)], axis=-1)
    seg = highdicom.seg.Segmentation(
        source_images=sources,
        pixel_array=pixels,
        segmentation_type=kind,
        segment_descriptions=[describe(number + 1) for number in range(segments)],
        series_instance_uid="1.2.3.400",
        series_number=9,
        sop_instance_uid="1.2.3.401",
        instance_number=1,
        manufacturer="m",
        manufacturer_model_name="m",
        software_versions="1",
        device_serial_number="1",
        omit_empty_frames=omit,
    )
    if shuffle:
        frames = np.atleast_3d(seg.pixel_array)
        order = np.random.default_rng(1).permutation(len(frames))
        seg.PixelData = pydicom.pixels.pack_bits(frames[order].ravel())
        groups = seg.PerFrameFunctionalGroupsSequence
        seg.PerFrameFunctionalGroupsSequence = [groups[int(index)] for index in order]
    seg.save_as(path)
    return path


def reason(function, *args, **kwargs):
    with pytest.raises(StudyError) as caught:
        function(*args, **kwargs)
    return caught.value.reason


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("omit", [True, False])
def test_a_seg_in_any_orientation_lies_on_the_same_voxels(exam, lesion, tmp_path, plane, omit):
    path = write_seg(tmp_path / "seg.dcm", exam, lesion, plane=plane, omit=omit)
    np.testing.assert_array_equal(read_mask(path, exam.grid), lesion)


def test_frames_in_any_order(exam, lesion, tmp_path):
    path = write_seg(tmp_path / "seg.dcm", exam, lesion, omit=False, shuffle=True)
    np.testing.assert_array_equal(read_mask(path, exam.grid), lesion)


def test_a_fractional_seg_counts_from_half(exam, lesion, tmp_path):
    path = write_seg(tmp_path / "seg.dcm", exam, lesion, kind="FRACTIONAL")
    np.testing.assert_array_equal(read_mask(path, exam.grid), lesion)


def test_a_seg_of_one_frame_is_placed(exam, tmp_path):
    mask = np.zeros(exam.volume.shape[1:], bool)
    mask[3, 2:5, 2:7] = True
    path = write_seg(tmp_path / "seg.dcm", exam, mask)
    np.testing.assert_array_equal(read_mask(path, exam.grid), mask)


def test_of_several_segments_one_must_be_named(exam, lesion, tmp_path):
    path = write_seg(tmp_path / "seg.dcm", exam, lesion, segments=2, omit=False)
    with pytest.raises(StudyError, match=r"labels 1, 2; write the lesion's .* #2"):
        read_mask(path, exam.grid)
    second = np.roll(lesion, 1, axis=0)
    np.testing.assert_array_equal(read_mask(path, exam.grid, choice=(1,)), lesion)
    np.testing.assert_array_equal(read_mask(path, exam.grid, choice=(2,)), second)
    for both in ((2, 1), "all"):
        np.testing.assert_array_equal(read_mask(path, exam.grid, choice=both), lesion | second)
    assert reason(read_mask, path, exam.grid, choice=(3,)) == "unreadable_mask"


def test_a_seg_that_is_a_label_map(exam, lesion, tmp_path):
    labels = np.where(lesion, 2, 0).astype(np.uint8)
    labels[:, 0, 0] = 1
    path = write_seg(tmp_path / "seg.dcm", exam, labels, kind="LABELMAP", segments=0)
    assert pydicom.dcmread(path).SegmentationType == "LABELMAP"
    np.testing.assert_array_equal(read_mask(path, exam.grid, choice=(2,)), lesion)
    np.testing.assert_array_equal(read_mask(path, exam.grid, choice="all"), labels > 0)
    assert reason(read_mask, path, exam.grid) == "unreadable_mask"


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd"])
def test_volume_formats_lie_on_the_same_voxels(exam, lesion, tmp_path, suffix):
    for axes in ("LPS", "RAS", "PIR"):
        path = tmp_path / f"{axes}{suffix}"
        sitk.WriteImage(sitk.DICOMOrient(to_image(lesion, exam.grid), axes), str(path))
        np.testing.assert_array_equal(read_mask(path, exam.grid), lesion)


@pytest.mark.parametrize(
    "grid",
    [
        Grid((6, 12, 11), (2.0, 1.5, 1.25), (-6.0, 4.0, -10.0)),
        Grid((6, 12, 10), (2.0, 1.5, 1.5), (-6.0, 4.0, -10.0)),
        Grid((6, 12, 10), (2.0, 1.5, 1.25), (-5.0, 4.0, -10.0)),
        Grid((6, 12, 10), (2.0, 1.5, 1.25), (-6.0, 4.0, -10.0), (0.98, -0.199, 0.0, 0.199, 0.98, 0.0, 0.0, 0.0, 1.0)),
    ],
    ids=["shape", "spacing", "origin", "direction"],
)
def test_scenario_28_a_mask_on_other_voxels_is_refused(exam, lesion, tmp_path, grid):
    sitk.WriteImage(to_image(np.ones(grid.shape, bool), grid), str(tmp_path / "mask.nii.gz"))
    assert reason(read_mask, tmp_path / "mask.nii.gz", exam.grid) == "mask_mismatch"
    seg = write_seg(tmp_path / "seg.dcm", exam, np.ones_like(lesion))
    if grid.shape == exam.grid.shape:  # a SEG may cover a part: only its place and voxels must agree
        assert reason(read_mask, seg, grid) == "mask_mismatch"


def test_scenario_28_a_seg_that_marks_voxels_outside_is_refused(exam, tmp_path):
    whole = np.ones(exam.volume.shape[1:], bool)
    seg = write_seg(tmp_path / "seg.dcm", exam, whole)
    part = Grid((5, 12, 10), (2.0, 1.5, 1.25), (-6.0, 4.0, -10.0))
    away = Grid((6, 12, 10), (2.0, 1.5, 1.25), (-6.0, 4.0, 90.0))
    assert reason(read_mask, seg, part) == "mask_mismatch"
    assert reason(read_mask, seg, away) == "mask_mismatch"


def test_a_seg_of_a_part_lies_in_a_larger_study(exam, lesion, tmp_path):
    larger = Grid((9, 20, 30), (2.0, 1.5, 1.25), (-6.0 - 4 * 1.25, 4.0 - 3 * 1.5, -10.0 - 2 * 2.0))
    expected = np.zeros(larger.shape, bool)
    expected[2:8, 3:15, 4:14] = lesion
    path = write_seg(tmp_path / "seg.dcm", exam, lesion)
    np.testing.assert_array_equal(read_mask(path, larger), expected)


def write_labels(path, array, grid):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(grid.spacing[::-1])
    image.SetOrigin(grid.origin)
    sitk.WriteImage(image, str(path))
    return path


@pytest.mark.parametrize("name", ["labels.nii.gz", "labels.nrrd"])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32, np.float64])
def test_of_a_label_map_the_chosen_labels_count(exam, lesion, tmp_path, name, kind):
    labels = np.zeros(lesion.shape, kind)
    labels[1:5, 3:10, 0:9] = 1
    labels[lesion] = 2
    labels[2, 5, 1] = 7
    path = write_labels(tmp_path / name, labels, exam.grid)
    with pytest.raises(StudyError, match=r"unreadable_mask: the mask holds the labels 1, 2, 7; write .* #2"):
        read_mask(path, exam.grid)
    for choice in ((2,), (2, 7), (7, 9), (1, 2, 7)):
        np.testing.assert_array_equal(read_mask(path, exam.grid, choice=choice), np.isin(labels, choice))
    np.testing.assert_array_equal(read_mask(path, exam.grid, choice="all"), labels > 0)
    with pytest.raises(StudyError, match="labels 1, 2, 7, and not the chosen one"):
        read_mask(path, exam.grid, choice=(3,))


def test_one_label_of_any_number_needs_no_choice(exam, lesion, tmp_path):
    for label in (1, 2, 255):
        path = write_labels(tmp_path / "one.nii.gz", np.where(lesion, label, 0).astype(np.uint8), exam.grid)
        np.testing.assert_array_equal(read_mask(path, exam.grid), lesion)
    nearly = write_labels(tmp_path / "nearly.nii.gz", np.where(lesion, 0.9999999, 0).astype(np.float32), exam.grid)
    np.testing.assert_array_equal(read_mask(nearly, exam.grid), lesion)


@pytest.mark.parametrize("choice", [None, (1,), "all"])
def test_values_that_are_no_labels_are_no_mask(exam, lesion, tmp_path, choice):
    rng = np.random.default_rng(0)
    for values in (
        exam.volume[1].astype(np.int16) * 40,  # the image itself
        rng.random(lesion.shape).astype(np.float32),  # probabilities
        np.where(lesion, 0.7, 0).astype(np.float32),
        np.where(lesion, -1, 0).astype(np.int16),
        rng.integers(0, 256, lesion.shape).astype(np.uint8),
        np.ones(lesion.shape, np.uint8),  # everything
        (~lesion).astype(np.uint8),  # inverted
    ):
        path = write_labels(tmp_path / "values.nii.gz", values, exam.grid)
        assert reason(read_mask, path, exam.grid, choice=choice) == "unreadable_mask"


@pytest.mark.parametrize("name", ["lesion.seg.nrrd", "lesion.nii.gz"])
@pytest.mark.parametrize("axes", ["LPS", "RAS", "PIR"])
def test_a_label_map_cut_to_its_lesion_lies_where_it_was(exam, lesion, tmp_path, name, axes):
    z, y, x = (slice(int(a.min()), int(a.max()) + 1) for a in np.nonzero(lesion))
    box = to_image(lesion, exam.grid)[x, y, z]
    sitk.WriteImage(sitk.DICOMOrient(box, axes), str(tmp_path / name))
    np.testing.assert_array_equal(read_mask(tmp_path / name, exam.grid), lesion)
    shifted = Grid(exam.grid.shape, exam.grid.spacing, tuple(at + 0.5 for at in exam.grid.origin))
    assert reason(read_mask, tmp_path / name, shifted) == "mask_mismatch"


def test_a_label_map_larger_than_the_images_counts_where_it_marks_none_outside(exam, lesion, tmp_path):
    padded = np.pad(lesion, 2).astype(np.uint8)
    start = tuple(at - 2 * step for at, step in zip(exam.grid.origin, exam.grid.spacing[::-1], strict=True))
    larger = Grid(padded.shape, exam.grid.spacing, start)
    np.testing.assert_array_equal(read_mask(write_labels(tmp_path / "a.nii", padded, larger), exam.grid), lesion)
    padded[0, 5, 5] = 1
    assert reason(read_mask, write_labels(tmp_path / "a.nii", padded, larger), exam.grid) == "mask_mismatch"


def test_a_mask_of_the_images_shape_whose_header_lost_its_place_is_refused(exam, lesion, tmp_path):
    """By whole voxels, too: then it would pass for a part of the volume."""
    x, y, z = exam.grid.origin
    moved = Grid(exam.grid.shape, exam.grid.spacing, (x + 1.25, y, z))
    assert reason(read_mask, write_labels(tmp_path / "a.nii", lesion.astype(np.uint8), moved), exam.grid) == (
        "mask_mismatch"
    )


def test_scenario_29_an_empty_mask_is_named(exam, lesion, tmp_path):
    empty = np.zeros_like(lesion)
    sitk.WriteImage(to_image(empty, exam.grid), str(tmp_path / "mask.nii.gz"))
    assert reason(read_mask, tmp_path / "mask.nii.gz", exam.grid) == "empty_mask"
    seg = write_seg(tmp_path / "seg.dcm", exam, empty, omit=False)
    assert reason(read_mask, seg, exam.grid) == "empty_mask"


def test_what_is_no_mask_is_refused(exam, lesion, tmp_path):
    image = exam.write(tmp_path / "images") / "0"
    assert reason(read_mask, image, exam.grid) == "unreadable_mask"
    for name, content in {
        "a.nii.gz": b"junk",
        "b.dcm": b"",
        "d.mha": b"ObjectType = Image",
        "c.dcm": b"\0" * 128 + b"DICM" + b"junk" * 9,
    }.items():
        (tmp_path / name).write_bytes(content)
        assert reason(read_mask, tmp_path / name, exam.grid) == "unreadable_mask"
    assert reason(read_mask, tmp_path / "absent.nii.gz", exam.grid) == "unreadable_mask"


def _seg(ds):
    return ds.PerFrameFunctionalGroupsSequence


def _tilt(ds):
    _orientation(ds, [1.0, 0.0, 0.0, 0.5, 0.5, 0.0])


def _orientation(ds, cosines):
    ds.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient = cosines


def _unparallel(ds):
    plane = pydicom.Dataset()
    plane.ImageOrientationPatient = [0.0, 1.0, 0.0, 0.0, 0.0, -1.0]
    _seg(ds)[1].PlaneOrientationSequence = [plane]


def _flat(ds):
    ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [0.0, 1.0]


def _huge(ds):
    ds.NumberOfFrames = 2_000_000


def _other_type(ds):
    ds.SegmentationType = "OUTLINE"


def _nowhere(ds):
    del _seg(ds)[0].PlanePositionSequence


@pytest.mark.parametrize("edit", [_tilt, _unparallel, _flat, _huge, _other_type, _nowhere])
def test_a_seg_without_a_sound_geometry_is_refused(exam, lesion, tmp_path, edit):
    path = write_seg(tmp_path / "seg.dcm", exam, lesion)
    ds = pydicom.dcmread(path)
    edit(ds)
    ds.save_as(path)
    assert reason(read_mask, path, exam.grid) == "unreadable_mask"


def test_a_truncated_seg_is_refused_wherever_it_is_cut(exam, lesion, tmp_path):
    path = write_seg(tmp_path / "seg.dcm", exam, lesion)
    data = path.read_bytes()
    for share in (0.1, 0.3, 0.5, 0.7, 0.9, 0.99):
        path.write_bytes(data[: int(len(data) * share)])
        assert reason(read_mask, path, exam.grid) == "unreadable_mask"


def grid_of_sagittal_frames(raw):
    """The grid that the frames of the real SEG lie on, in LPS, from its own positions."""
    groups = raw.PerFrameFunctionalGroupsSequence
    x, y, z = np.array([group.PlanePositionSequence[0].ImagePositionPatient for group in groups], float).T
    origin = (float(x.min()), float(y[0]), float(z[0]) - 255 * 0.78125)
    return Grid((256, 256, len(groups)), (0.78125, 0.78125, 2.0), origin)


def test_the_real_ispy_seg_as_highdicom_reads_it(real_data):
    path = real_data / "mri_ispy1_seg_dicom" / "ISPY1_1001_PE_VOIMASK_seg.dcm"
    raw = pydicom.dcmread(path)
    grid = grid_of_sagittal_frames(raw)
    mask = read_mask(path, grid)
    # 27 sagittal frames of 256 x 256: in LPS they run along x.
    assert mask.shape == (256, 256, 27)
    assert int(mask.sum()) == 45_993
    for number in (0, 13, 26):
        group = raw.PerFrameFunctionalGroupsSequence[number]
        x, y, z = (float(value) for value in group.PlanePositionSequence[0].ImagePositionPatient)
        frame = raw.pixel_array[number] > 127
        # Rows run to the feet, columns to posterior: z from the top downwards, y upwards.
        layer = round((x - grid.origin[0]) / 2.0)
        np.testing.assert_array_equal(mask[::-1, :, layer], frame)
        assert y == pytest.approx(grid.origin[1])
        assert z == pytest.approx(grid.origin[2] + 255 * 0.78125)


def test_the_real_ispy_segs_site_and_patient_do_not_leak(real_data, exam):
    path = real_data / "mri_ispy1_seg_dicom" / "ISPY1_1001_PE_VOIMASK_seg.dcm"
    raw = pydicom.dcmread(path, stop_before_pixels=True)
    assert raw.ClinicalTrialSiteID == "Site AAI"  # what must not come out is there
    with pytest.raises(StudyError) as caught:
        read_mask(path, exam.grid)
    assert caught.value.reason == "mask_mismatch"
    for secret in ("AAI", "ISPY", "1001", "6657"):
        assert secret not in str(caught.value)


def test_the_real_breast_volume_as_pynrrd_reads_it(real_data):
    folder = real_data / "mri_breast1_nrrd"
    image, grid = read_volume(folder / "breast1_image.nrrd")
    reference, header = nrrd.read(str(folder / "breast1_image.nrrd"))  # x, y, z
    np.testing.assert_array_equal(image, reference.transpose(2, 1, 0))
    assert grid.spacing == pytest.approx((2.1, 0.664062, 0.664062))
    assert grid.origin == pytest.approx(tuple(header["space origin"]))
    mask = read_mask(folder / "breast1_label.nrrd", grid)
    assert int(mask.sum()) == 143
    label, _ = nrrd.read(str(folder / "breast1_label.nrrd"))
    np.testing.assert_array_equal(mask, label.transpose(2, 1, 0) > 0)
    # PyRadiomics' own value on this lesion (baseline breast1): mean 131.12587.
    assert image[mask].mean() == pytest.approx(131.12587412587413)
