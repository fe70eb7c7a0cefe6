"""`fedbreast audit-log`: what it prints, and its exit codes."""

import sys

import pytest
from rich.console import Console

from server.commands import cli
from shared.runtime import terminal
from shared.runtime.audit_log import AuditLog, read, verify


@pytest.fixture
def log(tmp_path):
    log = AuditLog(tmp_path / "audit.jsonl")
    for number in range(5):
        log.record("round-trained", round=number, site="centre-a", note="two words", odd="\x1b[31m[red]")
    return log


@pytest.fixture
def call(monkeypatch, capsys):
    """Call the command line; returns exit code, output and errors."""
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["fedbreast", "audit-log", *map(str, arguments)])
        monkeypatch.setattr(terminal, "console", Console(file=sys.stdout, width=200))
        monkeypatch.setattr(terminal, "errors", Console(file=sys.stderr, soft_wrap=True, highlight=False))
        with pytest.raises(SystemExit) as end:
            cli.main()
        shown = capsys.readouterr()
        return end.value.code, shown.out, shown.err

    return run


def break_line(log, number):
    lines = log.path.read_bytes().splitlines(keepends=True)
    lines[number - 1] = lines[number - 1].replace(b"centre-a", b"centre-b")
    log.path.write_bytes(b"".join(lines))


def test_a_whole_log_is_told_with_its_lines_times_and_head(log, call):
    times = [entry["at"] for entry in read(log.path)]
    code, out, _ = call("verify", log.path)
    assert code == 0
    assert f"lines: 5, from {times[0]} to {times[-1]}" in out
    assert verify(log.path).head in out
    assert "Write the head down or give it to the other side" in out


def test_a_changed_line_is_named_with_what_to_do_and_the_exit_code_is_1(log, call):
    head = [entry["hash"] for entry in read(log.path)][1]
    break_line(log, 3)
    code, out, err = call("verify", log.path)
    assert code == 1
    assert "line 3: the line was changed" in err
    assert "Keep the file as evidence" in err
    assert "lines: 2" in out
    assert head in out
    assert "whole" not in out


def test_a_torn_last_line_is_no_accusation(log, call):
    log.path.write_bytes(log.path.read_bytes()[:-9])
    code, _, err = call("verify", log.path)
    assert code == 1
    assert "line 5: the last line is torn" in err
    assert "evidence" not in err


def test_lines_that_were_cut_off_show_with_the_head_alone(log, call):
    head = verify(log.path).head
    log.record("run-ended")
    assert call("verify", log.path, "--head", head.upper())[0] == 0
    log.path.write_bytes(b"".join(log.path.read_bytes().splitlines(keepends=True)[:3]))
    assert call("verify", log.path)[0] == 0
    code, _, err = call("verify", log.path, "--head", head)
    assert code == 1
    assert "line 4: no line has the expected head" in err


def test_half_a_head_is_refused(log, call):
    code, _, err = call("verify", log.path, "--head", verify(log.path).head[:12])
    assert code == 2
    assert "64 hexadecimal digits" in err


@pytest.mark.parametrize("command", ["verify", "show"])
def test_no_file_is_exit_code_2(tmp_path, call, command):
    code, _, err = call(command, tmp_path / "none.jsonl")
    assert code == 2
    assert "there is no audit log" in err


def test_an_empty_log_is_whole(tmp_path, call):
    (tmp_path / "audit.jsonl").touch()
    code, out, _ = call("verify", tmp_path / "audit.jsonl")
    assert code == 0
    assert "lines: 0\n" in out


def test_events_are_shown_with_facts_that_cannot_steer_the_terminal(log, call):
    code, out, _ = call("show", log.path)
    assert code == 0
    assert [f"round={number} " in out for number in range(6)] == [True] * 5 + [False]
    assert 'note="two words"' in out
    assert r'odd="\u001b[31m[red]"' in out
    assert "\x1b" not in out
    assert "before=" not in out


def test_the_last_lines_alone_are_shown(log, call):
    _, out, _ = call("show", log.path, "--last", 2)
    assert [f"round={number} " in out for number in range(5)] == [False, False, False, True, True]


def test_a_broken_log_is_shown_as_far_as_it_can_be_read_and_called_broken(log, call):
    break_line(log, 2)
    with log.path.open("ab") as file:
        file.write(b"garbage\n")
    code, out, err = call("show", log.path)
    assert code == 1
    assert "round=4 " in out
    assert "line 6 is no entry" in err
    assert "line 2: the line was changed" in err
