"""The command line as its user meets it."""

import sys

import pytest

from server.commands import cli


def told(monkeypatch, capsys, *arguments):
    """The exit code and the words of a call that must fail at once."""
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["fedbreast", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code, capsys.readouterr().err
