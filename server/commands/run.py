"""`fedbreast run` and `demo`: a federation with its bar, its figures, and what to do when it was stopped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from server.commands import display
from shared.errors import ConfigError, SiteError
from shared.runtime.project import project_root

if TYPE_CHECKING:
    from shared.config.run_config import RunConfig

EXCLUDED_TOO_MANY = 3
NOT_ALL = 3
"""Exit status of a run that finished without a site or case that should have been there."""
INTERRUPTED = 130


def run_federation(
    path: Path,
    config: RunConfig,
    name: str,
    *,
    resume: str = "",
    overrides: Mapping[str, int | str] | None = None,
    server: Path | None = None,
) -> None:
    """Run a federation with a bar, then show its figures.

    Parameters
    ----------
    path, config
        The configuration's file, and what it holds.
    name
        The run's folder below `runs/`.
    resume
        The run to go on with; empty for a new one.
    overrides
        What stands in for the configuration's own values: `seed`, `rounds`, `held-out`.
    server
        Kit of the consortium whose hospitals take part; None: a simulation on this machine.

    """
    from server.run_folder.finished_run import read_flow
    from server.run_folder.participation import sentence
    from server.run_folder.results import read_results

    data = project_root() / config.data.root
    if server is None and config.data.phantom is not None:
        from shared.phantom.generate import PhantomSettings, is_complete

        is_complete(
            data, PhantomSettings(**config.data.phantom.model_dump())
        )  # other data there: refused now, not later
    if server is None and config.data.phantom is None and not data.is_dir():
        raise SiteError(
            f"data.root {data} does not exist: put one folder a site there, or add [data.phantom] to have phantoms made"
        )
    folder = run_folder(name)
    display.console.print(f"run {name}: {len(config.data.sites)} sites, {folder}", soft_wrap=True, highlight=False)
    try:
        with display.bars() as bars:
            shown = display.Shown(bars)
            shown.report("start", 0, 1, "")
            _runner(server)(
                path,
                run_name=name,
                resume=resume,
                overrides=overrides or {},
                watch=lambda item: shown.report(item.phase, item.done, item.total, item.text),
            )
    except KeyboardInterrupt:
        where = f" --server {server}" if server else ""
        remedy = f"; resume with: fedbreast run --resume {name}{where}" if (folder / "config.toml").exists() else ""
        display.errors.print(f"stopped{remedy}", markup=False)
        raise typer.Exit(INTERRUPTED) from None
    results = read_results(folder)
    display.show_results(results)
    display.console.print(f"report: {folder / 'report.html'}", soft_wrap=True, highlight=False)
    over = [site for site, item in read_flow(folder).items() if item.over_policy]
    if over:
        display.errors.print(
            f"more cases were left out than {', '.join(over)} allows by policy: see the report, and `fedbreast check`",
            style="red",
        )
    missing = results.provenance.missing
    if missing:
        display.errors.print(sentence(missing), style="red", markup=False)
    if over or missing:
        raise typer.Exit(EXCLUDED_TOO_MANY if over else NOT_ALL)


def _runner(server: Path | None) -> Callable[..., None]:
    """What runs it: a simulation here, or the consortium of a server's kit."""
    if server is None:
        from server.deployment.simulation import run_flower

        return run_flower
    from server.deployment.server_kit import ServerKit
    from server.deployment.submit_run import run_on_server
    from shared.runtime.app_bundle import open_bundle

    kit = ServerKit(server)
    digest = open_bundle(project_root()).sha256
    display.console.print(f"app {digest}: each hospital must have approved it", soft_wrap=True, highlight=False)
    return partial(run_on_server, kit)


def run_folder(name: str) -> Path:
    """Folder of a run below `runs/`.

    Raises
    ------
    ConfigError
        The name is no folder's name.

    """
    if Path(name).name != name or name.startswith("."):
        raise ConfigError(f"a run's name is a folder's name below runs/, without slashes or a leading dot: {name!r}")
    return project_root() / "runs" / name
