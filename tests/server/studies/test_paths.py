"""Where a study keeps what: one place for each cell, and a cell is finished when its last file is there."""

from server.studies.design import Cell, Design
from server.studies.paths import cell_folder, evaluated_path, finished, last_file, progress_path
from shared.config.run_config import parse_config

TRAIN = Cell("train", "centre-d", "lesion-segmentation", "local:centre-a", 1)
EVALUATE = Cell("evaluate", "centre-d", "lesion-segmentation", "", 1)


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
