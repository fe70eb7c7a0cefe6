"""What the command line shows: bars of phases on a terminal, lines elsewhere."""

import io

from rich.console import Console

from server.commands import display
from shared.runtime import terminal


def test_on_a_terminal_a_phase_has_one_bar_which_is_full_once_the_next_began(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(terminal, "console", Console(file=screen, force_terminal=True, width=120))
    with display.bars() as bars:
        shown = display.PhaseBars(bars)
        for moment in (("prepare", 1, 3, "centre-a"), ("train", 0, 2, "round 1"), ("train", 1, 2, "round 2: training")):
            shown.report(*moment)
        state = [(task.description, task.completed, task.total) for task in bars.tasks]
        assert state == [("preparing cases", 3, 3), ("training", 1, 2)]
        assert bars.tasks[1].stop_time is None
        shown.report("failed", 0, 0, "no sites")
        assert (bars.tasks[1].completed, bars.tasks[1].stop_time is None) == (1, False)
    assert "round 2: training" in screen.getvalue()


def test_away_from_a_terminal_each_step_is_a_line(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(terminal, "console", Console(file=screen, width=40))
    with display.bars() as bars:
        phases = display.PhaseBars(bars)
        phases.report("train", 1, 2, "round 2: training of a long name that no terminal breaks")
        phases.report("done", 2, 2, "")
    assert screen.getvalue() == "training 1/2 round 2: training of a long name that no terminal breaks\n"
