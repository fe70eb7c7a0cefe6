"""The plan of a federation's MRI: a strict record, told apart by its hash."""

import math

import pytest
from pydantic import ValidationError

from shared.modalities.mri.plan import MOST_VOXELS, Extraction, MriPlan
from shared.modalities.mri.settings import MriSettings
from tests.mri_cases import WITHOUT_N4, plan_by_hand


def test_plan_survives_json_and_its_hash_tells_plans_apart():
    plan = plan_by_hand()
    assert MriPlan.model_validate_json(plan.model_dump_json()) == plan
    assert MriPlan.model_validate_json(plan.model_dump_json()).hash() == plan.hash()
    changes = (
        {"spacing_mm": (3.5, 2.6, 2.81)},
        {"mode": "patch"},
        {"extraction": WITHOUT_N4.model_copy(update={"n4": True})},
        {"extraction": WITHOUT_N4.model_copy(update={"version": 0})},
    )
    assert len({plan.hash(), *(plan_by_hand(**change).hash() for change in changes)}) == 5
    with pytest.raises(ValueError, match="extra"):
        MriPlan.model_validate_json(plan.model_dump_json()[:-1] + ',"extra":1}')


def test_an_extraction_takes_what_it_needs_of_the_configuration():
    settings = MriSettings(post_phases=2, n4=False, n4_shrink=3, n4_iterations=(5, 4), max_voxels=9999, workers=2)
    extraction = Extraction.of(settings)
    assert extraction == Extraction(post_phases=2, n4=False, n4_shrink=3, n4_iterations=(5, 4))
    # What has no part in it changes no hash: cached breasts are found again.
    assert Extraction.of(settings.model_copy(update={"workers": 1, "max_voxels": 5000})).hash() == extraction.hash()


@pytest.mark.parametrize("change", [{"post_phases": 0}, {"n4_shrink": 0}, {"n4_iterations": ()}, {"other": 1}])
def test_an_extraction_that_cannot_be_is_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        Extraction(**{**WITHOUT_N4.model_dump(), **change})


@pytest.mark.parametrize(
    "change",
    [
        {"spacing_mm": (0.04, 1.0, 1.0)},
        {"spacing_mm": (1.0, 20.1, 1.0)},
        {"spacing_mm": (1.0, 1.0, math.nan)},
        {"crop_voxels": (5000, 8, 8)},
        {"crop_voxels": (0, 8, 8)},
        {"crop_voxels": (500, 500, 500)},
        {"least_voxels": (1024, 1024, 1024)},
        {"low": (-1e300,) * 4},
        {"high": (1.0,) * 10},
        {"scale": (0.0,) * 4},
    ],
)
def test_a_plan_whose_numbers_are_out_of_bounds_is_refused(change):
    with pytest.raises(ValidationError, match=next(iter(change))):
        plan_by_hand(**change)
    assert plan_by_hand(spacing_mm=(0.05, 20.0, 1.0), crop_voxels=(MOST_VOXELS // 4_000_000, 1000, 4000))
