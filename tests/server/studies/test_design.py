"""What a study consists of: every centre left out once, and nothing evaluated before its fold is frozen."""

import pytest

from server.studies.design import (
    Cell,
    Design,
    cell_folder,
    differences,
    evaluated_path,
    finished,
    last_file,
    progress_path,
    training_steps,
)
from shared.config.run_config import load_config, parse_config
from shared.errors import ConfigError
from shared.runtime.project import load_run_config

RAW = {
    "name": "t",
    "data": {"root": "d", "sites": ["a", "b", "c"], "external": "x"},
    "federation": {"rounds": 3},
    "training": {"steps_per_round": 5},
}
TRAIN = Cell("train", "centre-d", "lesion-segmentation", "local:centre-a", 1)
EVALUATE = Cell("evaluate", "centre-d", "lesion-segmentation", "", 1)


def design(**study):
    return Design(parse_config({**RAW, "study": study}, "t"))


def test_every_centre_is_left_out_once_and_trains_in_all_other_folds():
    found = design()
    assert found.folds == ("a", "b", "c", "x")
    for fold in found.folds:
        config = found.fold(fold)
        assert config.data.external == fold
        assert set(config.data.sites) == {"a", "b", "c", "x"} - {fold}
    assert found.training("b") == ("a", "c", "x")


def test_cells_wait_for_the_plan_and_an_evaluation_for_every_model_of_its_fold():
    cells = design(seeds=[0, 1]).cells()
    trains = [cell for cell in cells if cell.kind == "train"]
    # 4 folds x 2 seeds x (federated, pooled, 3 local).
    assert len(trains) == 4 * 2 * 5
    last = Cell("evaluate", "a", "lesion-segmentation", "", 1)
    assert set(cells[last]) == {cell for cell in trains if cell.centre == "a"}
    assert {cell.seed for cell in cells[last]} == {0, 1}
    order = list(cells)
    assert all(order.index(needed) < order.index(cell) for cell, waits in cells.items() for needed in waits)


def test_a_single_fold_does_not_read_the_centre_that_is_left_out():
    cells = design(held_out=["x"]).cells()
    assert {cell.centre for cell in cells if cell.kind == "extract"} == {"a", "b", "c"}
    assert {cell.centre for cell in cells if cell.kind != "extract"} == {"x"}


def test_arms_follow_the_configuration_and_have_the_same_budget():
    found = design(arms=["local", "federated", "pooled"])
    assert found.trained_arms("c") == ["federated", "pooled", "local:a", "local:b", "local:x"]
    steps = {
        arm: training_steps(Cell("train", "c", "lesion-segmentation", arm, 0), found) for arm in found.trained_arms("c")
    }
    assert steps["local:a"] == 15
    assert steps["federated"] == steps["pooled"] == 45


@pytest.mark.parametrize(
    ("study", "message"),
    [
        ({"held_out": ["nowhere"]}, "study.held_out names nowhere"),
        ({"arms": ["ensemble"]}, "add 'local'"),
        ({"seeds": [1, 1]}, "names one twice"),
        ({"seeds": [-1]}, "greater than or equal to 0"),
    ],
)
def test_a_design_that_cannot_be_meant_is_refused(study, message):
    with pytest.raises(ConfigError, match=message):
        design(**study)


def test_two_centres_are_too_few_where_two_must_train():
    raw = {**RAW, "data": {"root": "d", "sites": ["a"], "external": "x"}, "federation": {"min_sites": 1}}
    assert Design(parse_config(raw, "t")).fold("a").data.sites == ("x",)
    raw["data"] = {"root": "d", "sites": ["a", "b"], "external": None}
    raw["federation"] = {"min_sites": 2}
    with pytest.raises(ConfigError, match="min_sites"):
        Design(parse_config(raw, "t")).fold("a")


def test_a_run_can_leave_out_another_centre(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDBREAST_ROOT", str(tmp_path))
    (tmp_path / "t.toml").write_text('name = "t"\n[data]\nroot = "d"\nsites = ["a", "b"]\nexternal = "x"\n')
    chosen = load_run_config({"config": "t.toml", "held-out": "a"})
    assert (chosen.data.sites, chosen.data.external) == (("b", "x"), "a")
    assert load_run_config({"config": "t.toml", "held-out": ""}) == load_config(tmp_path / "t.toml")
    with pytest.raises(ConfigError, match="no centre 'q' to hold out; there are a, b, x"):
        load_run_config({"config": "t.toml", "held-out": "q"})


def test_differences_name_the_key():
    assert differences({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 1, "c": 4}, "d": 3}) == ["a.c"]
    assert differences({}, {"a": 1}) == ["a"]


def test_every_cell_has_a_last_file_and_a_progress_of_its_own(tmp_path):
    sites = {"root": "d", "sites": ["a", "b", "c"], "external": "x"}
    config = parse_config({"name": "t", "data": sites, "study": {"seeds": [0, 1]}}, "t")
    cells = list(Design(config).cells())
    assert len({last_file(tmp_path, cell) for cell in cells}) == len(cells)
    assert len({progress_path(tmp_path, cell) for cell in cells}) == len(cells)


def test_names_of_files_hold_no_colon_and_no_blank(tmp_path):
    assert cell_folder(tmp_path, TRAIN) == (
        tmp_path / "folds" / "centre-d" / "cells" / "lesion-segmentation" / "local-centre-a-seed-1"
    )
    assert evaluated_path(tmp_path, EVALUATE) == (
        tmp_path / "folds" / "centre-d" / "evaluated" / "lesion-segmentation-seed-1.parquet"
    )
    assert progress_path(tmp_path, TRAIN).name == "centre-d_train_lesion-segmentation_local-centre-a_seed-1.json"


def test_a_cell_is_finished_when_its_last_file_is_there(tmp_path):
    assert not finished(tmp_path, EVALUATE)
    evaluated_path(tmp_path, EVALUATE).parent.mkdir(parents=True)
    evaluated_path(tmp_path, EVALUATE).touch()
    assert finished(tmp_path, EVALUATE)
    assert not finished(tmp_path, TRAIN)
