"""What `fedbreast study` prints before and while it runs, and how it estimates the time."""

import io

import pytest
from rich.console import Console

from server.commands import display, study
from server.studies import time_estimate
from server.studies.design import Cell, Design
from server.studies.runner import Moment
from server.studies.time_estimate import Estimate
from shared.config.run_config import parse_config
from shared.runtime import terminal

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


@pytest.fixture
def screen(monkeypatch):
    text = io.StringIO()
    monkeypatch.setattr(terminal, "console", Console(file=text, width=120))
    return text


def test_time_left_by_hand():
    expected = Estimate({READ: 10.0, PREPARE: 20.0, TRAIN: 70.0})
    assert expected.left([], {}, jobs=1) == 100
    # On two workers no sooner than the longest cell.
    assert expected.left([], {}, jobs=2) == 70
    assert expected.left([READ, PREPARE], {TRAIN: 0.5}, jobs=1) == 35
    # Twice as slow as thought; other kinds are not.
    assert expected.left([READ], {}, jobs=1, paces={"train": 2.0}) == 160
    assert expected.left([READ, PREPARE, TRAIN], {}, jobs=1) == 0


def test_a_kinds_pace_is_that_of_its_own_cells(monkeypatch):
    clock = iter([0.0, 60.0, 90.0])
    monkeypatch.setattr(study.time, "monotonic", lambda: next(clock))
    other = Cell("train", "x", "lesion-segmentation", "federated", 0)
    shown = study.StudyBars(None, Estimate({READ: 100.0, TRAIN: 40.0, other: 40.0}), 1, [])
    assert shown._left(Moment((), 3, {READ: (0.0, "")}), {READ: 0.0}) == 180
    # Read from the cache: done after a minute, which says nothing of training.
    assert shown._left(Moment((READ,), 3, {TRAIN: (0.0, "")}), {TRAIN: 0.0}) == 80
    # Half an hour's worth: 40 s expected took 30.
    assert shown._left(Moment((READ, TRAIN), 3, {TRAIN: (1.0, "")}), {TRAIN: 1.0}) == 30


def test_a_cell_takes_as_long_as_its_steps_and_cases(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDBREAST_ROOT", str(tmp_path))
    monkeypatch.setattr(time_estimate, "_step_seconds", lambda _: 0.5)
    for name, rows in (("a", 4), ("b", 6), ("x", 10)):
        (tmp_path / "d" / name).mkdir(parents=True)
        (tmp_path / "d" / name / "cases.csv").write_text("patient_id,side\n" + "p,L\n" * rows)
    found = time_estimate.estimate(Design(CONFIG)).seconds
    task = "lesion-segmentation"
    assert found[Cell("extract", "b")] == 12.0
    assert found[Cell("train", "x", task, "local:a", 0)] == 4 * 5 * 0.5
    assert found[Cell("train", "x", task, "federated", 0)] == 2 * 4 * 5 * 0.5
    assert found[Cell("judge", "x", task, "", 0)] > found[Cell("judge", "a", task, "", 0)]


def test_a_step_is_timed_on_the_network_itself():
    small = CONFIG.model_copy(
        update={
            "model": CONFIG.model.model_copy(update={"channels": (8, 8), "deep_supervision": 1}),
            "preprocessing": CONFIG.preprocessing.model_copy(update={"max_voxels": 4096}),
        }
    )
    assert 0 < time_estimate._step_seconds(small) < 5


def test_the_plan_counts_cells_of_each_kind(screen, tmp_path):
    design = Design(CONFIG)
    expected = Estimate(dict.fromkeys(design.cells(), 60.0))
    done = [cell for cell in design.cells() if cell.kind == "extract"]
    study.show_plan(design, expected, done, 2, tmp_path)
    lines = [" ".join(line.replace("│", " ").split()) for line in screen.getvalue().splitlines() if "│" in line]
    # 3 folds, each with federated, pooled and two local models.
    assert lines == [
        "read a centre's images 3 3 0 min",
        "plan and prepare a fold 3 0 3 min",
        "train a model 12 0 12 min",
        "judge a fold's models 3 0 3 min",
    ]
    assert "about 9 min on 2 at once" in screen.getvalue()
    assert "left out: a, b, x; arms: local, federated, pooled, ensemble" in screen.getvalue()


def test_away_from_a_terminal_every_finished_cell_is_a_line(screen):
    expected = Estimate({READ: 10.0, PREPARE: 200.0, TRAIN: 700.0})
    with display.bars() as bars:
        shown = study.StudyBars(bars, expected, 1, [])
        shown.report(Moment((), 3, {READ: (0.5, "cases read")}))
        shown.report(Moment((READ,), 3, {}))
        shown.report(Moment((READ,), 3, {PREPARE: (0.0, "")}))
        shown.report(Moment((READ, PREPARE), 3, {}))
    lines = screen.getvalue().splitlines()
    assert lines == ["1/3 a extract, about 15 min left", "2/3 x prepare, about 12 min left"]


def test_on_a_terminal_running_cells_have_bars_that_go_when_they_end(monkeypatch):
    monkeypatch.setattr(terminal, "console", Console(file=io.StringIO(), force_terminal=True, width=120))
    with display.bars() as bars:
        shown = study.StudyBars(bars, Estimate({READ: 1.0, TRAIN: 1.0}), 2, [])
        shown.report(Moment((), 2, {READ: (0.25, "cases read"), TRAIN: (0.0, "")}))
        assert [task.description.strip() for task in bars.tasks] == ["study", READ.name, TRAIN.name]
        assert bars.tasks[1].completed == 25
        shown.report(Moment((READ,), 2, {TRAIN: (0.5, "round 2 of 4")}))
        assert [task.description.strip() for task in bars.tasks] == ["study", TRAIN.name]
        assert bars.tasks[0].completed == 1
