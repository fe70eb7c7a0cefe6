import numpy as np
import pytest
import SimpleITK as sitk

from shared.modalities.mri.bias_field import bias_field
from shared.modalities.mri.breast_crop import find_breast

SETTINGS = {"shrink": 2, "iterations": (50, 50, 50, 50)}


def shading(mask, strength):
    """Logarithm of a coil's field: slopes and bows, of standard deviation `strength` inside the mask."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, size) for size in mask.shape), indexing="ij")
    field = 0.8 * y - 0.6 * x + 0.5 * z**2 - 0.4 * x * z
    return (strength * (field - field[mask].mean()) / field[mask].std()).astype(np.float32)


@pytest.fixture
def breast(make_study):
    study, _ = make_study("left", spacing=(3.0, 2.5, 2.5))
    box = find_breast(study, "left")
    return study.phases[0][box.window], box.breast, study.grid.spacing


def test_a_known_field_is_found_and_removed(breast):
    volume, mask, spacing = breast
    applied = shading(mask, 0.35)
    found = np.log(bias_field(volume * np.exp(applied), mask, spacing, **SETTINGS))
    assert (found - applied)[mask].std() < 0.13
    assert found[mask].mean() == pytest.approx(0.0, abs=1e-4)


def test_nothing_is_invented_where_there_is_no_field(breast):
    volume, mask, spacing = breast
    assert np.log(bias_field(volume, mask, spacing, **SETTINGS))[mask].std() < 0.1


def test_the_same_bytes_twice_and_on_one_thread(breast):
    volume, mask, spacing = breast
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(2)
    first = bias_field(volume, mask, spacing, **SETTINGS)
    assert sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == 1
    assert first.tobytes() == bias_field(volume, mask, spacing, **SETTINGS).tobytes()


def test_a_mask_too_small_for_a_field_changes_nothing():
    volume = np.random.default_rng(0).uniform(1, 2, (16, 16, 16)).astype(np.float32)
    mask = np.zeros(volume.shape, bool)
    mask[8, 8, 8] = True
    np.testing.assert_array_equal(bias_field(volume, mask, (1.0, 1.0, 1.0), **SETTINGS), np.ones_like(volume))
