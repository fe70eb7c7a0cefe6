"""`fedbreast import`: a public dataset, as it is downloaded, becomes one site folder for each of its centres."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from server.commands.run import existing
from shared.errors import ConfigError
from shared.runtime import terminal
from shared.runtime.project import project_root

import_app = typer.Typer()


@import_app.command(
    "import",
    epilog="Examples: [bold]fedbreast import --list[/bold]   [bold]fedbreast import cmmd /data/CMMD --out sites[/bold]",
)
def import_command(
    name: Annotated[str, typer.Argument(help="The importer; --list shows them.")] = "",
    path: Annotated[Path | None, typer.Argument(help="The dataset's folder, as it was downloaded; only read.")] = None,
    out: Annotated[Path, typer.Option(help="Where to write one site folder for each centre.")] = Path("sites"),
    show: Annotated[bool, typer.Option("--list", help="List the importers.")] = False,
) -> None:
    """Write site folders that point at a public dataset's images; nothing is copied."""
    from shared.cohort.importers import IMPORTERS, importer_named
    from shared.cohort.importers.site_folders import import_dataset

    if show:
        table = Table("name", "dataset", "licence", "where")
        for known in map(importer_named, IMPORTERS):
            table.add_row(known.name, known.title, known.licence, known.source)
        table.columns[-1].overflow = "fold"  # an address is to be copied whole
        terminal.console.print(table)
        return
    if path is None:
        raise ConfigError("name an importer and the dataset's folder: fedbreast import NAME PATH; --list shows them")
    imported = import_dataset(importer_named(name), path, out)
    table = Table("site", "cases")
    for site, cases in sorted(imported.cases.items()):
        table.add_row(site, str(cases))
    terminal.console.print(table)
    for reason, cases in sorted(imported.left_out.items()):
        terminal.console.print(f"left out: {cases} ({reason})", markup=False)
    terminal.say(f"next: fedbreast check {out / min(imported.cases)}")
    config = Path("configs") / f"{name}.toml"
    if existing(config).is_file():
        from shared.config.run_config import load_config

        root = project_root() / load_config(existing(config)).data.root
        moved = "" if root.resolve() == out.resolve() else f', of a copy with data.root = "{out.resolve()}"'
        terminal.say(f"then: fedbreast run {config}{moved}")
