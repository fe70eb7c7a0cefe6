"""Runs a federation for `fedbreast run` and `demo`: progress, results, and how to resume when it was stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from server.commands import display
from shared.errors import ConfigError, RunError
from shared.runtime import terminal
from shared.runtime.project import load_run_config, project_root

if TYPE_CHECKING:
    from shared.config.run_config import RunConfig

INCOMPLETE = 3
"""Exit code of what finished without all sites, or with more cases left out than a site allows."""


def run_federation(
    path: Path,
    config: RunConfig,
    name: str,
    *,
    resume: str = "",
    overrides: Mapping[str, int | str] | None = None,
    server: Path | None = None,
) -> None:
    """Run a federation, show its progress and then its metrics.

    Parameters
    ----------
    path, config
        The configuration's file, and what it holds.
    name, resume
        The run's folder below `runs/`; the run to resume, empty for a new one.
    overrides
        Values that replace the configuration's: `seed`, `rounds`, `held-out`.
    server
        Kit of the consortium whose hospitals take part; None: a simulation on this machine.

    """
    from server.deployment.simulation import check_data
    from server.run_folder.finished_run import read_flow
    from server.run_folder.participation import sentence
    from server.run_folder.results import read_results

    if server is None:
        check_data(config)
    runner = _runner(server)
    folder = run_folder(name)
    terminal.say(f"run {name}: {len(config.data.sites)} sites, {folder}")
    if server is not None:
        asked = load_run_config({"config": str((folder / "config.toml") if resume else path), **(overrides or {})})
        terminal.say(f"configuration {asked.hash()}: each hospital must have approved it")
    try:
        with display.bars() as bars:
            phases = display.PhaseBars(bars)
            phases.report("start", 0, 1, "")
            runner(
                path,
                run_name=name,
                resume=resume,
                overrides=overrides or {},
                watch=lambda item: phases.report(item.phase, item.done, item.total, item.text),
            )
    except KeyboardInterrupt:
        where = f" --server {server}" if server else ""
        remedy = f"; resume with: fedbreast run --resume {name}{where}" if (folder / "config.toml").exists() else ""
        terminal.errors.print(f"stopped{remedy}", markup=False)
        raise typer.Exit(terminal.INTERRUPTED) from None
    except RunError:
        if (folder / "results.json").is_file():
            terminal.say(f"report of what finished: {folder / 'report.html'}")
        raise
    results = read_results(folder)
    display.show_results(results)
    terminal.say(f"report: {folder / 'report.html'}")
    over = [site for site, item in read_flow(folder).items() if item.over_policy]
    if over:
        terminal.errors.print(
            f"more cases were left out than {', '.join(over)} allows by policy: see the report, and `fedbreast check`",
            style="red",
        )
    missing = results.provenance.missing
    if missing:
        terminal.errors.print(sentence(missing), style="red", markup=False)
    if over or missing:
        raise typer.Exit(INCOMPLETE)


def _runner(server: Path | None) -> Callable[..., None]:
    """The function that runs it: in a simulation here, or in the consortium of a server's kit."""
    if server is None:
        from server.deployment.simulation import run_flower

        return run_flower
    from server.deployment.server_kit import ServerKit
    from server.deployment.submit_run import run_on_server
    from shared.runtime.app_bundle import open_bundle

    kit = ServerKit(server)
    digest = open_bundle(project_root()).sha256
    terminal.say(f"app {digest}: each hospital must have approved it")
    return partial(run_on_server, kit)


def existing(config: Path) -> Path:
    """The file relative to the working directory, else to the project's root."""
    return config if config.exists() else project_root() / config


def run_folder(name: str) -> Path:
    """Folder of a run below `runs/`; its name must be a plain folder name."""
    if Path(name).name != name or name.startswith("."):
        raise ConfigError(f"a run's name is a folder's name below runs/, without slashes or a leading dot: {name!r}")
    return project_root() / "runs" / name
