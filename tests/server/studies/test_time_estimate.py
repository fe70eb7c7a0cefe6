"""What a study will take: by hand from the seconds of a step, of a case and of a cell."""

from server.studies import time_estimate
from server.studies.design import Cell, Design
from server.studies.time_estimate import StudyTime
from shared.config.run_config import parse_config

CONFIG = parse_config(
    {
        "name": "toy",
        "data": {"root": "d", "sites": ["a", "b"], "external": "x"},
        "federation": {"rounds": 4},
        "training": {"steps_per_round": 5},
        "splits": {"validation": 0.0, "test": 0.0},
    },
    "t",
)
READ, PREPARE = Cell("extract", "a"), Cell("prepare", "x")
TRAIN = Cell("train", "x", "lesion-segmentation", "pooled", 0)


def test_time_left_by_hand():
    expected = StudyTime({READ: 10.0, PREPARE: 20.0, TRAIN: 70.0})
    assert expected.left([], {}, jobs=1) == 100
    # On two workers no sooner than the longest cell.
    assert expected.left([], {}, jobs=2) == 70
    assert expected.left([READ, PREPARE], {TRAIN: 0.5}, jobs=1) == 35
    # Twice as slow as thought; other kinds are not.
    assert expected.left([READ], {}, jobs=1, paces={"train": 2.0}) == 160
    assert expected.left([READ, PREPARE, TRAIN], {}, jobs=1) == 0


def test_a_cell_takes_as_long_as_its_steps_and_cases(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDBREAST_ROOT", str(tmp_path))
    monkeypatch.setattr(time_estimate, "_step_seconds", lambda _: 0.5)
    for name, rows in (("a", 4), ("b", 6), ("x", 10)):
        (tmp_path / "d" / name).mkdir(parents=True)
        (tmp_path / "d" / name / "cases.csv").write_text("patient_id,side\n" + "p,L\n" * rows)
    seconds = time_estimate.estimate(Design(CONFIG)).seconds
    task = "lesion-segmentation"
    assert seconds[Cell("extract", "b")] == 12.0
    assert seconds[Cell("train", "x", task, "local:a", 0)] == 4 * 5 * 0.5
    assert seconds[Cell("train", "x", task, "federated", 0)] == 2 * 4 * 5 * 0.5
    assert seconds[Cell("evaluate", "x", task, "", 0)] > seconds[Cell("evaluate", "a", task, "", 0)]


def test_a_step_is_timed_on_the_network_itself():
    small = CONFIG.model_copy(
        update={
            "model": CONFIG.model.model_copy(update={"channels": (8, 8), "deep_supervision": 1}),
            "preprocessing": CONFIG.preprocessing.model_copy(update={"max_voxels": 4096}),
        }
    )
    assert 0 < time_estimate._step_seconds(small) < 5
