"""`fedbreast monitor` shows how a run goes; `fedbreast health` asks whether the server answers."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from shared.errors import RunError
from shared.runtime import terminal
from shared.runtime.project import project_root

monitor_app = typer.Typer()
_RETRY_S = 0.5
# Keeps gRPC's own messages off the terminal; gRPC reads this when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")


@monitor_app.command(
    epilog="Examples: [bold]fedbreast monitor consortium/observer[/bold]   "
    "[bold]fedbreast monitor --runs runs[/bold] (simulations of this machine)"
)
def monitor(
    folder: Annotated[
        Path | None, typer.Argument(help="An observer's folder or a server's kit; none: run folders of this machine.")
    ] = None,
    run: Annotated[str, typer.Option(help="Name of the run; empty: the one that was started last.")] = "",
    runs: Annotated[Path | None, typer.Option(help="Folder of run folders to read, without a server.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the page; 0: any that is free.")] = 0,
    once: Annotated[bool, typer.Option(help="Print how the run is, once, instead of a live page.")] = False,
) -> None:
    """Show how a run goes on a web page of this machine; Ctrl-C ends it."""
    from server.monitoring.feed import Feed, follow_folder, follow_server
    from server.monitoring.live_page import PageServer
    from server.monitoring.status_client import look, read_observer

    if folder is not None and runs is not None:
        raise typer.BadParameter("name a folder of certificates or --runs, not both")
    observer = read_observer(folder) if folder is not None else None
    place = runs or project_root() / "runs"
    if once:
        if observer is None:
            from server.monitoring.snapshot import snapshot

            show_snapshot(snapshot(place, run or None))
        else:
            show_snapshot(look(observer, run or None)[0])
        return
    feed = Feed()
    follow = partial(follow_server, observer) if observer is not None else partial(follow_folder, place)
    threading.Thread(target=follow, args=(run or None, feed, threading.Event()), daemon=True).start()
    server = PageServer(feed, port)
    source = observer.where if observer is not None else str(place)
    terminal.say(f"{server.url} shows {source}; Ctrl-C ends it")
    with suppress(KeyboardInterrupt):
        server.serve_page()


@monitor_app.command(epilog="Example: [bold]fedbreast health consortium/server --wait 60[/bold]")
def health(
    kit: Annotated[Path, typer.Argument(help="The server's kit.")],
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for a server that is starting.")] = 0.0,
) -> None:
    """Ask the server on this machine whether it serves. Exit 0 when it does, 1 when not; one line says why."""
    from server.monitoring.status_client import probe

    deadline = time.monotonic() + wait
    while True:
        try:
            terminal.say(probe(kit))
        except RunError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(_RETRY_S)
        else:
            return


def show_snapshot(run: dict[str, Any]) -> None:
    """Print a snapshot: the run in a line or two, then a table of its sites."""
    name = run["run"] or "no run has been started"
    which = run.get("phantom_sites")
    data = f"PHANTOM DATA at {', '.join(which)}, " if which else "PHANTOM DATA, " if run["phantom"] else ""
    state = f"{run['state']}, {run['outcome']}" if run["outcome"] else run["state"]
    steps = f": {run['doing']} {run['done']:g}/{run['total']:g}" if run["state"] == "running" else ""
    left = "" if run["left_s"] is None else f"; about {run['left_s'] / 60:.0f} min of training left"
    terminal.console.print(f"{data}{name}: {state}{steps} {run['text']}".rstrip() + left, markup=False, highlight=False)
    if not run["sites"]:
        return
    table = Table(title=", ".join(_rounds(item) for item in run["tasks"]))
    for column in ("site", "state", "cases", "last loss", "last score", "reason"):
        table.add_column(column, justify="right" if column in {"cases", "last loss", "last score"} else "left")
    for site in run["sites"]:
        figures = ("-" if site[key] is None else f"{site[key]:.3f}" for key in ("loss", "score"))
        cases = "-" if site["cases"] is None else f"{site['cases']:g}"
        table.add_row(site["name"], site["state"], cases, *figures, site["reason"])
    terminal.console.print(table, markup=False)


def _rounds(task: dict[str, Any]) -> str:
    last = task["rounds"][-1]["round"] if task["rounds"] else 0
    return f"{task['task']}: {last:g} of {task['total']:g} rounds" if task["total"] else f"{task['task']}: {last:g}"
