"""The section `[preprocessing]` of MRI."""

import pytest
from pydantic import ValidationError

from shared.modalities.mri.settings import MriSettings


def test_a_channel_for_each_phase():
    assert MriSettings(post_phases=1).channels == 2
    assert MriSettings(post_phases=5).channels == 6


def test_the_model_card_says_what_becomes_of_an_image():
    grid, image = MriSettings(spacing_mm=(2.5, 1.5, 1.5), n4=False, post_phases=4).describe()
    assert grid == ("grid", "resampled to 2.5 x 1.5 x 1.5 mm (z, y, x)")
    assert image[1].startswith("pre-contrast and 4 times after injection; no bias field correction")
    grid, image = MriSettings().describe()
    assert "merged fingerprint" in grid[1]
    assert "; N4 bias field correction;" in image[1]


@pytest.mark.parametrize("change", [{"post_phases": 9}, {"max_voxels": 10}, {"n4_shrink": 17}, {"spacing": 1.0}])
def test_what_cannot_be_meant_is_refused_by_its_key(change):
    with pytest.raises(ValidationError, match=next(iter(change))):
        MriSettings(**change)
