"""`fedbreast serve` and `fedbreast rehearse`: the coordinator's server, and a whole consortium on this machine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from server.commands import display
from shared.runtime import terminal

serve_app = typer.Typer()


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

    server = ServerKit(kit)
    terminal.say(f"serving {server.server.name} on {server.server.address}:{server.server.port}; Ctrl-C ends it")
    try:
        keep_serving(server, terminal.say_event, host)
    except KeyboardInterrupt:
        terminal.errors.print("stopped")
        raise typer.Exit(terminal.INTERRUPTED) from None


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

    At the end it compares the models' hashes with those of a simulation with the same configuration and seed.
    """
    from server.commands.run import existing, run_federation, run_folder
    from server.deployment.rehearsal import model_hashes, prepare, run_consortium
    from server.deployment.simulation import ensure_data
    from shared.config.run_config import load_config

    path = existing(config)
    settings = load_config(path)
    run_name = name or f"{settings.name}-consortium-{time.strftime('%Y%m%d-%H%M%S')}"
    with display.bars() as bars:
        ensure_data(settings, display.PhaseBars(bars).report)
    rehearsal = prepare(run_folder(f"{run_name}-kits"), settings)
    terminal.say(f"kits and logs: {rehearsal.folder}")
    with run_consortium(rehearsal, terminal.say):
        run_federation(path, settings, run_name, server=rehearsal.server)
    if not against:
        against = f"{run_name}-simulation"
        run_federation(path, settings, against)
    hashes = model_hashes(run_folder(run_name), run_folder(against), settings.tasks)
    for task, pairs in hashes.items():
        differ = [number for number, (ours, theirs) in enumerate(pairs) if ours != theirs]
        comparison = f"DIFFERENT from round {differ[0]} on" if differ else "the same in every round"
        last = pairs[-1]
        terminal.say(f"{task}: consortium {last[0][:12]}, simulation {last[1][:12]}: {comparison}")
    if any(ours != theirs for pairs in hashes.values() for ours, theirs in pairs):
        raise typer.Exit(1)
