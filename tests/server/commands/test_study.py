"""What `fedbreast study` prints before and while it runs."""

import io

import pytest
from rich.console import Console

from server.commands import display, study
from server.studies.design import Cell, Design
from server.studies.runner import Moment
from server.studies.time_estimate import StudyTime
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


def test_a_kinds_pace_is_that_of_its_own_cells(monkeypatch):
    clock = iter([0.0, 60.0, 90.0])
    monkeypatch.setattr(study.time, "monotonic", lambda: next(clock))
    other = Cell("train", "x", "lesion-segmentation", "federated", 0)
    shown = study.StudyBars(None, StudyTime({READ: 100.0, TRAIN: 40.0, other: 40.0}), 1, [])
    assert shown._left(Moment((), 3, {READ: (0.0, "")}), {READ: 0.0}) == 180
    # Read from the cache: done after a minute, which says nothing of training.
    assert shown._left(Moment((READ,), 3, {TRAIN: (0.0, "")}), {TRAIN: 0.0}) == 80
    # Half an hour's worth: 40 s expected took 30.
    assert shown._left(Moment((READ, TRAIN), 3, {TRAIN: (1.0, "")}), {TRAIN: 1.0}) == 30


def test_the_plan_counts_cells_of_each_kind(screen, tmp_path):
    design = Design(CONFIG)
    expected = StudyTime(dict.fromkeys(design.cells(), 60.0))
    done = [cell for cell in design.cells() if cell.kind == "extract"]
    study.show_plan(design, expected, done, 2, tmp_path)
    lines = [" ".join(line.replace("│", " ").split()) for line in screen.getvalue().splitlines() if "│" in line]
    # 3 folds, each with federated, pooled and two local models.
    assert lines == [
        "read a centre's images 3 3 0 min",
        "plan and prepare a fold 3 0 3 min",
        "train a model 12 0 12 min",
        "evaluate a fold's models 3 0 3 min",
    ]
    assert "about 9 min on 2 at once" in screen.getvalue()
    assert "left out: a, b, x; arms: local, federated, pooled, ensemble" in screen.getvalue()


def test_away_from_a_terminal_every_finished_cell_is_a_line(screen):
    expected = StudyTime({READ: 10.0, PREPARE: 200.0, TRAIN: 700.0})
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
        shown = study.StudyBars(bars, StudyTime({READ: 1.0, TRAIN: 1.0}), 2, [])
        shown.report(Moment((), 2, {READ: (0.25, "cases read"), TRAIN: (0.0, "")}))
        assert [task.description.strip() for task in bars.tasks] == ["study", READ.name, TRAIN.name]
        assert bars.tasks[1].completed == 25
        shown.report(Moment((READ,), 2, {TRAIN: (0.5, "round 2 of 4")}))
        assert [task.description.strip() for task in bars.tasks] == ["study", TRAIN.name]
        assert bars.tasks[0].completed == 1
