"""The plans that a run folder keeps, and the single one of folders from before there were several modalities."""

import json

import pytest

from server.run_folder.journal import RunFolder
from shared.modalities.mri.plan import Extraction, MriPlan

PLAN = MriPlan(
    mode="whole_breast",
    spacing_mm=(0.1 + 0.2, 1.0, 1.0),
    crop_voxels=(8, 8, 8),
    least_voxels=(8, 8, 8),
    low=(-9.0,) * 4,
    high=(9.0,) * 4,
    scale=(0.7, 0.3, 0.3, 0.3),
    extraction=Extraction(post_phases=3, n4=False, n4_shrink=4, n4_iterations=(20,)),
)


def test_plans_are_kept_by_modality_to_the_last_bit(tmp_path):
    folder = RunFolder(tmp_path / "one")
    assert folder.plans() == {}
    folder.write_plans({"mri": PLAN})
    assert RunFolder(tmp_path / "one").plans() == {"mri": PLAN}
    assert list(json.loads((tmp_path / "one" / "plan.json").read_text())) == ["mri"]


def test_a_folder_of_before_has_mris_plan(tmp_path):
    folder = RunFolder(tmp_path / "one")
    folder.write("plan.json", PLAN.model_dump_json(indent=1).encode())
    assert folder.plans() == {"mri": PLAN}


def test_a_plan_of_no_known_modality_is_not_read(tmp_path):
    folder = RunFolder(tmp_path / "one")
    folder.write("plan.json", json.dumps({"mri": PLAN.model_dump(mode="json"), "sonar": {}}).encode())
    with pytest.raises(ValueError, match="sonar"):
        folder.plans()
