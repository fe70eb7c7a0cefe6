"""Stored volumes: the right box in the right mm, few bytes a voxel, nothing unpickled, the same after a round trip."""

import io

import numpy as np
import pytest

from server.run_folder.volumes import LARGEST, read_volumes, store_volume
from shared.errors import RunError

SPACING = (4.0, 1.0, 2.0)
SHAPE = (20, 75, 40)


def lesion(*boxes, shape=SHAPE):
    mask = np.zeros(shape, bool)
    for box in boxes:
        mask[box] = True
    return mask


SMALL = lesion(np.s_[6, 19:24, 9:14])


def store_and_read(folder, reference=SMALL, prediction=SMALL, *, signal=None, spacing=SPACING, name="centre-d-best"):
    if signal is None:
        signal = np.random.default_rng(0).normal(100, 30, reference.shape)
    image = signal.astype(np.float32)
    store_volume(
        folder / f"{name}.npz", "centre-d-0", "best", image=image, reference=reference, prediction=prediction,
        spacing=spacing,
    )  # fmt: skip
    return image, read_volumes(folder)[-1]


def test_the_box_reaches_45_mm_around_the_lesion_and_small_volumes_keep_their_voxels(tmp_path):
    prediction = np.roll(SMALL, 1, axis=1)
    signal, volume = store_and_read(tmp_path, prediction=prediction)
    # Around voxel (6, 21, 11): 11 slices, 45 rows and 22 columns to each side, cut at the volume's edges.
    box = np.s_[0:18, 0:67, 0:34]
    assert (volume.label, volume.case, volume.spacing) == ("best", "centre-d-0", SPACING)
    assert volume.image.shape == signal[box].shape
    np.testing.assert_array_equal(volume.reference, SMALL[box])
    np.testing.assert_array_equal(volume.prediction, prediction[box])
    low, high = np.percentile(signal[box].astype(float), [1, 99.7])
    assert volume.bounds == pytest.approx((low, high))
    assert (volume.image[signal[box] <= low] == 0).all()
    assert (volume.image[signal[box] >= high] == 255).all()
    within = (signal[box] > low) & (signal[box] < high)
    np.testing.assert_allclose(
        (low + volume.image / 255 * (high - low))[within], signal[box][within], atol=(high - low) / 509
    )


def test_without_a_reference_the_box_lies_around_the_prediction(tmp_path):
    prediction = lesion(np.s_[15, 60:64, 30:33])
    _, volume = store_and_read(tmp_path, np.zeros(SHAPE, bool), prediction)
    assert volume.prediction.sum() == 12
    assert not volume.reference.any()
    # Voxel (15, 61, 31): the last 16 of 20 slices, 59 of 75 rows, 31 of 40 columns.
    assert volume.image.shape == (16, 59, 31)


def test_fine_grids_are_resampled_over_the_same_mm(tmp_path):
    shape, spacing = (100, 140, 120), (1.0, 0.75, 0.8)
    reference = lesion(np.s_[50, 70, 60], shape=shape)
    prediction = np.random.default_rng(1).random(shape) < 0.3
    z, y, x = np.indices(shape)
    _, volume = store_and_read(tmp_path, reference, prediction, signal=3.0 * z + 2.0 * y + x, spacing=spacing)
    corner, sizes = (5, 10, 4), (91, 121, 113)  # 45, 60 and 56 voxels to each side of the lesion
    assert volume.image.shape == LARGEST == (64, 80, 80)
    extent = np.array(sizes) * spacing
    np.testing.assert_allclose(np.array(volume.image.shape) * volume.spacing, extent)
    # Centres of the new voxels in the old grid: both cover the same mm from the box's corner.
    places = [c + (np.arange(m) + 0.5) * n / m - 0.5 for c, m, n in zip(corner, LARGEST, sizes, strict=True)]
    nearest = np.ix_(*(np.floor(place + 0.5).astype(int) for place in places))
    np.testing.assert_array_equal(volume.prediction, prediction[nearest])
    np.testing.assert_array_equal(volume.reference, reference[nearest])
    # A ramp stays a ramp under linear interpolation.
    ramp = 3.0 * places[0][:, None, None] + 2.0 * places[1][:, None] + places[2]
    low, high = volume.bounds
    within = (ramp > low) & (ramp < high)
    np.testing.assert_allclose((low + volume.image / 255 * (high - low))[within], ramp[within], atol=(high - low) / 500)


def test_a_flat_image_is_black(tmp_path):
    _, volume = store_and_read(tmp_path, signal=np.full(SHAPE, 7.0))
    assert volume.bounds == (7.0, 7.0)
    assert not volume.image.any()


def test_the_same_input_gives_the_same_bytes_and_no_drafts_stay(tmp_path):
    for name in ("b", "a"):
        store_and_read(tmp_path / "volumes", name=name)
    files = sorted((tmp_path / "volumes").iterdir())
    assert [file.name for file in files] == ["a.npz", "b.npz"]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert len(read_volumes(tmp_path / "volumes")) == 2
    assert read_volumes(tmp_path / "nowhere") == []


def stored(**changes):
    arrays = {
        "case": np.array("c"),
        "label": np.array("best"),
        "image": np.zeros((2, 3, 4), np.uint8),
        "spacing": np.ones(3),
        "bounds": np.array([0.0, 1.0]),
        "reference": np.zeros(3, np.uint8),
        "prediction": np.zeros(3, np.uint8),
    }
    content = io.BytesIO()
    np.savez_compressed(content, **(arrays | changes))
    return content.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK not a zip",
        stored()[:300],
        stored(spacing=np.array([{"a": 1}], dtype=object)),
        stored(image=np.zeros((2, 3, 4), np.float32)),
        stored(image=np.zeros((3, 4), np.uint8)),
        stored(
            image=np.zeros((65, 3, 4), np.uint8), reference=np.zeros(98, np.uint8), prediction=np.zeros(98, np.uint8)
        ),
        stored(reference=np.zeros(4, np.uint8)),
        stored(prediction=np.zeros(3, np.float32)),
        stored(spacing=np.array([1.0, 0.0, 1.0])),
        stored(spacing=np.array([1.0, np.nan, 1.0])),
        stored(bounds=np.array([1.0, 0.0])),
        stored(bounds=np.array([0.0, np.inf])),
        stored(bounds=np.zeros(3)),
    ],
)
def test_a_damaged_or_pickled_file_is_refused_by_name(tmp_path, content):
    folder = tmp_path / "volumes"
    folder.mkdir()
    file = folder / "centre-d-worst.npz"
    file.write_bytes(stored())
    (whole,) = read_volumes(folder)
    assert whole.image.shape == (2, 3, 4)
    file.write_bytes(content)
    with pytest.raises(RunError, match=r"volumes/centre-d-worst\.npz cannot be read"):
        read_volumes(folder)


def test_no_flipped_byte_raises_anything_else(tmp_path):
    content, file = stored(), tmp_path / "a.npz"
    refused = 0
    for place in range(0, len(content), 5):
        file.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:
            read_volumes(tmp_path)
        except RunError:
            refused += 1
    assert refused > len(content) / 15
