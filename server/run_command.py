"""`fedbreast run` and `demo`: a federation with its bar, its figures, and what to do when it was stopped."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from server import display
from shared.errors import ConfigError, SiteError
from shared.project import project_root

if TYPE_CHECKING:
    from shared.config import RunConfig

EXCLUDED_TOO_MANY = 3
INTERRUPTED = 130


def run_federation(
    path: Path,
    config: RunConfig,
    name: str,
    *,
    resume: str = "",
    overrides: Mapping[str, int | str] | None = None,
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

    """
    from server.launch import run_flower
    from server.reports.run_folder import read_flow
    from server.results import read_results

    data = project_root() / config.data.root
    if config.data.phantom is not None:
        from shared.phantom.generate import PhantomSettings, is_complete

        is_complete(
            data, PhantomSettings(**config.data.phantom.model_dump())
        )  # other data there: refused now, not later
    if config.data.phantom is None and not data.is_dir():
        raise SiteError(
            f"data.root {data} does not exist: put one folder a site there, or add [data.phantom] to have phantoms made"
        )
    folder = run_folder(name)
    display.console.print(f"run {name}: {len(config.data.sites)} sites, {folder}", soft_wrap=True, highlight=False)
    try:
        with display.bars() as bars:
            shown = display.Shown(bars)
            shown.report("start", 0, 1, "")
            run_flower(
                path,
                run_name=name,
                resume=resume,
                overrides=overrides or {},
                watch=lambda item: shown.report(item.phase, item.done, item.total, item.text),
            )
    except KeyboardInterrupt:
        remedy = f"; resume with: fedbreast run --resume {name}" if (folder / "config.toml").exists() else ""
        display.errors.print(f"stopped{remedy}", markup=False)
        raise typer.Exit(INTERRUPTED) from None
    display.show_results(read_results(folder))
    display.console.print(f"report: {folder / 'report.html'}", soft_wrap=True, highlight=False)
    over = [site for site, item in read_flow(folder).items() if item.over_policy]
    if over:
        display.errors.print(
            f"more cases were left out than {', '.join(over)} allows by policy: see the report, and `fedbreast check`",
            style="red",
        )
        raise typer.Exit(EXCLUDED_TOO_MANY)


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
