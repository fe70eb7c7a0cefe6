"""The two affines of a NIfTI header, against nibabel: they must agree where both are given."""

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from shared.dicom.geometry import to_lps
from shared.dicom.nifti_header import check_nifti
from shared.dicom.volumes import Volume
from shared.errors import StudyError

SHAPE, SPACING = (30, 20, 10), (0.8, 1.5, 2.5)


def affine(angles=(0.0, 0.0, 0.0), spacing=SPACING, offset=(-10.0, 20.0, 5.0), mirrored=False):
    """Affine of NIfTI, `(4, 4)` in RAS, turned by these angles in degrees."""
    turned = np.eye(4)
    turned[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * (1, 1, -1 if mirrored else 1)
    turned[:3, :3] *= spacing
    turned[:3, 3] = offset
    return turned


def write(path, qform=None, sform=None, codes=(1, 1)):
    """A volume with these affines; without one its code is 0."""
    image = nibabel.Nifti1Image(np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE), None)
    image.header["pixdim"][1:4] = SPACING
    image.header.set_qform(qform, codes[0] if qform is not None else 0)
    image.header.set_sform(sform, codes[1] if sform is not None else 0)
    nibabel.save(image, path)
    return path


def fault(path):
    try:
        check_nifti(path, 1 << 20)
    except StudyError as error:
        return error.reason
    return None


def tilted(angles=(0.0, 0.0, 0.0), offset=(0.0, 0.0, 0.0)):
    return affine(tuple(np.array((10.0, 20.0, 30.0)) + angles), offset=tuple(np.array((-10.0, 20.0, 5.0)) + offset))


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("angles", [(0, 0, 0), (90, 0, 0), (10, -20, 30), (180, 0, 0), (0, 180, 90), (179.99, 0.01, 0)])
def test_affines_that_agree_are_read(tmp_path, angles, mirrored):
    both = affine(angles, mirrored=mirrored)
    for qform, sform in ((both, both), (both, None), (None, both)):
        assert fault(write(tmp_path / "a.nii", qform, sform)) is None


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"offset": (0.07, 0.0, 0.0)}, None),  # spacing is 0.8: less than a tenth of a voxel
        ({"offset": (0.09, 0.0, 0.0)}, "mixed_geometry"),
        ({"offset": (0.0, 0.0, -40.0)}, "mixed_geometry"),
        ({"angles": (0.0, 0.0, 0.05)}, None),
        ({"angles": (0.0, 0.0, 0.5)}, "mixed_geometry"),  # the far corner moves by 0.3 mm
        ({"angles": (0.0, 0.0, 180.0)}, "mixed_geometry"),
    ],
)
def test_affines_that_differ_by_more_than_a_tenth_of_a_voxel_are_a_fault(tmp_path, changed, expected):
    for pair in ((tilted(), tilted(**changed)), (tilted(**changed), tilted())):
        assert fault(write(tmp_path / "a.nii", *pair)) == expected
        # Where a code says that one is unknown, nothing contradicts the other.
        assert fault(write(tmp_path / "a.nii", *pair, codes=(1, 0))) is None
        assert fault(write(tmp_path / "a.nii", *pair, codes=(0, 2))) is None


def test_an_affine_of_other_voxels_than_pixdim_is_a_fault(tmp_path):
    """SimpleITK takes the directions from the one, and the size of voxels from the other."""
    for spacing in ((0.4, 1.5, 2.5), (0.8, 1.5, 2.55)):
        assert fault(write(tmp_path / "a.nii", None, affine(spacing=spacing))) == "mixed_geometry"
    assert fault(write(tmp_path / "a.nii", None, affine(spacing=(0.8001, 1.5, 2.5)))) is None


@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    offset=st.tuples(*[st.floats(-500, 500)] * 3),
    mirrored=st.booleans(),
    which=st.sampled_from(["q", "s", "qs"]),
)
def test_any_affine_puts_voxels_where_nibabel_does(tmp_path_factory, angles, offset, mirrored, which):
    both = affine(angles, offset=offset, mirrored=mirrored)
    path = tmp_path_factory.getbasetemp() / "any.nii"
    write(path, both if "q" in which else None, both if "s" in which else None)
    assert fault(path) is None
    image = nibabel.load(path)
    stored, grid = Volume(path).load()
    np.testing.assert_array_equal(stored, np.asarray(image.dataobj).transpose(2, 1, 0))
    corner = np.array(grid.direction).reshape(3, 3) @ ((np.array(SHAPE) - 1) * grid.spacing[::-1]) + grid.origin
    expected = image.affine @ [*(np.array(SHAPE) - 1), 1]
    np.testing.assert_allclose(corner * (-1, -1, 1), expected[:3], atol=1e-2)
    assert to_lps(stored, grid)[1].shape
