"""`fedbreast check`: what a run would take of a site folder, and what to do about the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from server.commands import display
from shared.errors import ConfigError
from shared.runtime import terminal

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.site_check.site_report import CaseReport, SiteReport

_MOST_LINES = 12


def check(
    folder: Annotated[Path, typer.Argument(help="A site folder: site.toml, cases.csv, images.")],
    max_excluded_share: Annotated[float, typer.Option(min=0.0, max=1.0, help="Exit 3 if more is left out.")] = 0.0,
    page: Annotated[Path | None, typer.Option(help="Write a page with a thumbnail of each case.")] = None,
    as_json: Annotated[Path | None, typer.Option("--json", help="Write all that was seen as JSON.")] = None,
) -> None:
    """Read every case of a site folder as a run does; show what would be left out, why, and what to do about it.

    Call it again after mending something: cases that did not change are not read again.
    """
    from shared.site_check.site_report import NONE_USABLE, SOME_LEFT_OUT, check_site

    for path in filter(None, (page, as_json)):
        if path.is_dir() or path.resolve().is_relative_to(folder.resolve()):
            raise ConfigError(f"{path}: name a file outside the site folder, which is only read")
    with display.bars() as bars:
        task = bars.add_task("reading cases", total=None, text="")
        report = check_site(folder, lambda done, total: bars.update(task, completed=done, total=total))
    show(report)
    if page:
        from server.reports.site_check.page import write_page

        write_page(report, page)
        terminal.say(f"page: {page}")
    if as_json:
        from shared.atomic_files import replace_file

        replace_file(as_json, json.dumps(report.to_dict(), indent=1).encode(), str(as_json.parent))
        terminal.say(f"JSON: {as_json}")
    left_out, total = len(report.left_out), len(report.cases)
    code = report.severity(max_excluded_share)
    if code == NONE_USABLE:
        terminal.errors.print("no case is usable: a run would leave this site out", style="red")
    elif code == SOME_LEFT_OUT and left_out > max_excluded_share * total:
        limit = f": more than the limit of {max_excluded_share:.0%}" if max_excluded_share else ""
        terminal.errors.print(f"{left_out} of {total} left out{limit}", style="red")
    elif code == SOME_LEFT_OUT:
        terminal.errors.print("one patient may both train and test: see 'leak' above", style="red")
    if code:
        raise typer.Exit(code)


def show(report: SiteReport) -> None:
    """Print a site's check so that it is read in a minute: what is left out, what to look at, columns, some cases."""
    from shared.site_check.reasons import explanation, remedy
    from shared.site_check.site_report import ranges

    total, left_out = len(report.cases), len(report.left_out)
    kind = " (PHANTOM)" if report.phantom else ""
    terminal.say(f"{report.name}{kind}: {total} cases, {total - left_out} usable, {left_out} left out", style="bold")
    if report.known:
        terminal.say(f"{report.known} did not change since the last check and were not read again")
    for reason, own in report.by_reason().items():
        terminal.say(f"\nleft out: {reason}, {len(own)} (rows {ranges([case.row for case in own])})", style="red")
        terminal.say(f"  {explanation(reason)} {remedy(reason)}")
        for sentence in list(dict.fromkeys(case.seen.detail for case in own if case.seen.detail))[:3]:
            terminal.say(f"  - {sentence}", style="dim")
    doubts = [f"{item.kind}: {item.sentence} (rows {ranges(item.rows)})" for item in report.table.doubts]
    doubts += [f"{note} (rows {ranges(rows)})" for note, rows in report.notes().items()]
    if doubts:
        terminal.say("\nto look at", style="yellow")
        _say_some(doubts, lambda line: f"  {line}")
    terminal.say(f"\ntable: {report.table.rows} rows, {report.table.patients} patients", style="bold")
    terminal.say(f"  read: {', '.join(report.table.used)}")
    if report.table.unread:
        unread = [f"field {item.field}" + (f" (is '{item.near}' meant?)" if item.near else "")
                  for item in report.table.unread]  # fmt: skip
        terminal.say(f"  not read: {', '.join(unread)}")
    for column in dict.fromkeys(item.column for item in report.table.support):
        values = [f"{item.value} {item.usable}" for item in report.table.support if item.column == column]
        terminal.say(f"  {column}, usable: {', '.join(values)}")
    _show_cases(report.cases)
    terminal.say(f"who the rows are, for you alone: {report.who}")


def _say_some(lines: list[str], written: Callable[[str], str]) -> None:
    for line in lines[:_MOST_LINES]:
        terminal.say(written(line))
    if len(lines) > _MOST_LINES:
        terminal.say(f"  and {len(lines) - _MOST_LINES} more: see --page or --json")


def _show_cases(cases: tuple[CaseReport, ...]) -> None:
    """One line a case of the first few: what was read of it."""
    from shared.site_check.site_report import written

    table = Table(box=None, pad_edge=False, padding=(0, 1))
    for name in (
        "row",
        "",
        "series taken",
        "phases, s",
        "voxels",
        "spacing, mm",
        "plane, vendor",
        "lesion, ml",
        "state",
    ):
        table.add_column(name, overflow="fold")
    for case in cases[:_MOST_LINES]:
        facts = case.seen.facts
        taken = sum(item.taken for item in case.seen.series)
        phases = facts.get("phases_s") or facts.get("views")
        where = " ".join(str(facts[name]) for name in ("plane", "vendor") if name in facts)
        table.add_row(
            str(case.row),
            f"{case.side} {case.modality}",
            f"{taken} of {len(case.seen.series)}",
            " ".join(map(_rounded, phases if isinstance(phases, list | tuple) else ())),
            written(facts.get("voxels") or "").replace(" ", ""),
            written(facts.get("spacing_mm") or "").replace(" ", ""),
            where,
            written(facts.get("lesion_ml") or ""),
            str(case.seen.reason or "usable"),
        )
    terminal.say("")
    terminal.console.print(table)
    if len(cases) > _MOST_LINES:
        terminal.say(f"and {len(cases) - _MOST_LINES} more cases: --page FILE or --json FILE show them all")


def _rounded(value: float | str) -> str:
    return f"{value:.0f}" if isinstance(value, float) else str(value)
