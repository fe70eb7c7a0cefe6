"""Lines on the terminal stay as they are: no markup, no breaks."""

import io
import re

import pytest
from rich.console import Console

from shared.runtime import terminal


@pytest.fixture
def screen(monkeypatch):
    text = io.StringIO()
    monkeypatch.setattr(terminal, "console", Console(file=text, width=20))
    return text


def test_a_line_is_neither_broken_nor_read_as_markup(screen):
    terminal.say("a path [bold]/with/a/long/name[/bold] that is wider than the terminal")
    assert screen.getvalue() == "a path [bold]/with/a/long/name[/bold] that is wider than the terminal\n"


def test_an_event_is_a_time_a_word_and_its_facts(screen):
    terminal.say_event("connected", {"site": "centre-a", "node": 7})
    assert re.fullmatch(r"\d\d:\d\d:\d\d connected site=centre-a node=7\n", screen.getvalue())
