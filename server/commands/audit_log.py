"""`fedbreast audit-log`: check that an audit log is complete and unchanged, and show what it says."""

from __future__ import annotations

import json
import math
import re
from collections import deque
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from shared.errors import ConfigError, RunError
from shared.runtime import audit_log, terminal
from shared.runtime.audit_line import OWN, TORN

BROKEN = 1

audit_app = typer.Typer(
    name="audit-log", no_args_is_help=True, help="Check and read an audit log: what was done, each line sealed."
)

_File = Annotated[Path, typer.Argument(help="The log: state/audit.jsonl of a kit, or a copy of it.")]


@audit_app.command(
    epilog="Examples: [bold]fedbreast audit-log verify centre-a/state/audit.jsonl[/bold]   "
    "[bold]fedbreast audit-log verify audit_log.jsonl --head 1f9a...[/bold]"
)
def verify(
    file: _File,
    head: Annotated[str, typer.Option(help="A head written down earlier: 64 hexadecimal digits.")] = "",
) -> None:
    """Check that no line was changed, removed, moved or inserted; print the head. Exit 1 if the log is broken.

    Lines cut off at the end leave a log that looks whole, and so does an end that was written anew: only a head that
    was written down elsewhere shows that. Give it as --head; lines that came after it are no fault.
    """
    expected = head.strip().lower()
    if expected and not re.fullmatch("[0-9a-f]{64}", expected):
        raise ConfigError("--head is no head of an audit log: it has 64 hexadecimal digits, give all of them")
    verdict = audit_log.verify(_existing(file), expected or None)
    if verdict.broken_at is not None:
        _complain(file, verdict)
    times = _times(file, verdict.lines)
    terminal.say(f"lines: {verdict.lines}" + (f", from {times[0]} to {times[1]}" if times else ""))
    terminal.say(f"head:  {verdict.head}")
    if verdict.broken_at is not None:
        raise typer.Exit(BROKEN)
    terminal.say("The log is whole." + (" The head written down earlier is in it." if expected else ""))
    terminal.say(
        "Write the head down or give it to the other side: only so can they see that lines were cut off later."
    )


@audit_app.command(
    epilog="Example: [bold]fedbreast audit-log show consortium/server/state/audit.jsonl --last 20[/bold]"
)
def show(
    file: _File,
    last: Annotated[int | None, typer.Option(min=1, help="Only the last lines, this many.")] = None,
) -> None:
    """Print what the log says, one event a line. Exit 1 if the log is broken."""
    verdict = audit_log.verify(_existing(file))
    entries: deque[dict[str, Any]] = deque(maxlen=last)
    try:
        entries.extend(audit_log.read(file))
    except RunError as error:
        terminal.errors.print(f"{error}; lines up to there are shown", style="red", markup=False)
    broken_at = math.inf if verdict.broken_at is None else verdict.broken_at
    table = Table("line", "time (UTC)", "event", "facts")
    for entry in entries:
        facts = " ".join(f"{_plain(name)}={_plain(value)}" for name, value in entry.items() if name not in OWN)
        cells = (_plain(entry["seq"]), _plain(entry["at"]), _plain(entry["event"]), facts)
        table.add_row(*map(escape, cells), style="red" if entry["seq"] >= broken_at else None)
    terminal.console.print(table, highlight=False)
    if verdict.broken_at is not None:
        _complain(file, verdict)
        raise typer.Exit(BROKEN)


def _existing(file: Path) -> Path:
    if not file.is_file():
        raise ConfigError(f"there is no audit log {file}: it is state/audit.jsonl of a kit, made with the first event")
    return file


def _complain(file: Path, verdict: audit_log.Verdict) -> None:
    if verdict.why == TORN:
        remedy = "a process was ended while it wrote. The next event closes the gap by itself and tells of it"
    else:
        remedy = (
            "Keep the file as evidence and compare it with a copy or with the head the other side holds; what stands "
            "before this line is as it was written. To go on, move the file away: a new log starts"
        )
    terminal.errors.print(f"{file}, line {verdict.broken_at}: {verdict.why}. {remedy}.", style="red", markup=False)


def _times(file: Path, lines: int) -> tuple[str, str] | None:
    """When the first and the last of the first `lines` lines were written."""
    first, last = "", ""
    for entry in islice(audit_log.read(file), lines):
        last = _plain(entry["at"])
        first = first or last
    return (first, last) if lines else None


def _plain(value: object) -> str:
    """A value as text; quoted and escaped where it could be misread or could control the terminal."""
    word = isinstance(value, str) and re.fullmatch(r"[\w.:+/@-]+", value, re.ASCII)
    return str(value) if word else json.dumps(value)
