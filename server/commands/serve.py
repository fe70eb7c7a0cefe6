"""`fedbreast serve`: the coordinator's server, until it is interrupted."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from server.commands import display

serve_app = typer.Typer()
INTERRUPTED = 130


@serve_app.command(epilog="Example: [bold]fedbreast serve consortium/server[/bold]")
def serve(
    kit: Annotated[Path, typer.Argument(help="The server's kit, made by `fedbreast provision`.")],
    host: Annotated[str, typer.Option(help="Address to listen on for hospitals and observers.")] = "0.0.0.0",  # noqa: S104
) -> None:
    """Serve a consortium: SuperLink, nginx in front of it, status for observers. Ctrl-C ends it.

    Start runs beside it with [bold]fedbreast run CONFIG --server KIT[/bold].
    """
    from server.deployment.serve import serve as keep_serving
    from server.deployment.server_kit import ServerKit

    opened = ServerKit(kit)
    display.console.print(
        f"serving {opened.server.name} on {opened.server.address}:{opened.server.port}; Ctrl-C ends it",
        highlight=False,
        soft_wrap=True,
    )
    try:
        keep_serving(opened, say, host)
    except KeyboardInterrupt:
        display.errors.print("stopped")
        raise typer.Exit(INTERRUPTED) from None


@serve_app.command(
    epilog="Examples: [bold]fedbreast rehearse configs/quick.toml[/bold]   "
    "[bold]fedbreast rehearse configs/quick.toml --against demo-run[/bold]"
)
def rehearse(
    config: Annotated[Path, typer.Argument(help="The run's TOML file.")] = Path("configs/quick.toml"),
    name: Annotated[str, typer.Option(help="Folder below runs/; empty: the config's name and the time.")] = "",
    against: Annotated[str, typer.Option(help="Finished simulation to compare with; empty: run one.")] = "",
) -> None:
    """Rehearse a consortium on this machine: a secured server and every centre as processes of their own.

    Ends with the hashes of its models beside those of a simulation with the same configuration and seed.
    """
    from server.commands.run import run_federation, run_folder
    from server.deployment.phantom_data import ensure_data
    from server.deployment.rehearsal import prepare, same_models, served
    from shared.config.run_config import load_config
    from shared.runtime.project import project_root

    path = config if config.exists() else project_root() / config
    settings = load_config(path)
    chosen = name or f"{settings.name}-consortium-{time.strftime('%Y%m%d-%H%M%S')}"
    with display.bars() as bars:
        shown = display.Shown(bars)
        ensure_data(settings, shown.report)
    rehearsed = prepare(run_folder(f"{chosen}-kits"), settings)
    display.console.print(f"kits and logs: {rehearsed.folder}", soft_wrap=True, highlight=False)
    with served(rehearsed, display.console.print):
        run_federation(path, settings, chosen, server=rehearsed.server)
    if not against:
        against = f"{chosen}-simulation"
        run_federation(path, settings, against)
    pairs = same_models(run_folder(chosen), run_folder(against), settings.tasks)
    for task, hashes in pairs.items():
        differ = [number for number, (ours, theirs) in enumerate(hashes) if ours != theirs]
        verdict = "the same in every round" if not differ else f"DIFFERENT from round {differ[0]} on"
        last = hashes[-1]
        display.console.print(
            f"{task}: consortium {last[0][:12]}, simulation {last[1][:12]}: {verdict}", highlight=False
        )
    if any(ours != theirs for hashes in pairs.values() for ours, theirs in hashes):
        raise typer.Exit(1)


def say(event: str, facts: Mapping[str, Any]) -> None:
    """Print an event as one line."""
    words = " ".join(f"{key}={value}" for key, value in facts.items())
    display.console.print(f"{time.strftime('%H:%M:%S')} {event} {words}", highlight=False, markup=False, soft_wrap=True)
