"""The section `[mammography]`: published defaults, and what the model card says of them."""

import pytest
from pydantic import ValidationError

from shared.modalities.mammography.settings import MammographySettings


def test_the_defaults_are_those_of_the_paper_and_the_card_says_them():
    own = MammographySettings()
    assert (own.margin, own.margin_unit, own.roi_pixels, own.channels) == (100.0, "pixels", 224, 1)
    rows = dict(MammographySettings(margin=8, margin_unit="mm", roi_pixels=64, whole_pixels=(128, 96)).describe())
    assert rows["region"] == "box around the lesion's outline and 8 mm, square, 64 pixels"
    assert rows["whole breast"] == "box around the breast, 128 x 96 pixels"


@pytest.mark.parametrize("wrong", [{"margin": -1}, {"margin_unit": "cm"}, {"roi_pixels": 8}, {"edge": 3}])
def test_what_it_cannot_be(wrong):
    with pytest.raises(ValidationError):
        MammographySettings(**wrong)
