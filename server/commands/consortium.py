"""The coordinator's commands on a consortium; what they do is in `server/deployment/provisioning/`."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from server.commands import display

if TYPE_CHECKING:
    from server.deployment.provisioning.members import Handout

EXPIRES_SOON = 3
"""Exit code of `expiry`."""
_PURPOSE = {
    "authority": "stays OFFLINE with the coordinator: its key admits hospitals",
    "server": "to the machine that hospitals reach",
    "observer": "to whoever watches from elsewhere",
}

consortium_app = typer.Typer()

Folder = Annotated[Path, typer.Argument(help="The folder that `provision` wrote.")]


@consortium_app.command(
    epilog="Example: [bold]fedbreast provision configs/consortium.toml --out consortium[/bold]",
)
def provision(
    file: Annotated[Path, typer.Argument(metavar="CONSORTIUM.toml", help="Who takes part; see configs/.")],
    out: Annotated[Path, typer.Option(help="Folder to write, or to add new hospitals to.")] = Path("consortium"),
) -> None:
    """Make keys, certificates and a kit for each member of a consortium; called again, for hospitals added since."""
    from server.deployment.provisioning import members

    made = members.provision(file, out, datetime.now(UTC))
    _show_folders(out, made)
    if made.consortium.insecure:
        _say("insecure = true changes nothing here: these kits use TLS and node keys", style="yellow")
    server = f"{made.consortium.server.address}:{made.consortium.server.port}"
    sites = ", ".join(name for name in made.until if name in made.consortium.site_names)
    if made.first:
        _say(f"warning: {out}/authority must stay offline. Whoever has its key can admit anybody.", style="yellow")
        _say("next:")
        _say(f"  1. keep {out} on a medium that is no server's; back it up; it holds private keys")
        _say(f"  2. hand out: {out}/server to {server}, and to each hospital its own folder: {sites}")
        _say(
            f"  3. start: fedbreast serve {shlex.quote(f'{out}/server')}; "
            "at a hospital: fedbreast approve KIT, fedbreast serve-site KIT"
        )
        return
    _say("next:")
    _say(f"  1. copy {out}/server/sites and {out}/server/certificates to {server}; the server takes them up at once")
    _say(f"  2. hand each new hospital its own folder: {sites}")
    _say("  3. start there: fedbreast approve KIT, fedbreast serve-site KIT")


@consortium_app.command(
    epilog="Examples: [bold]fedbreast rotate consortium centre-a[/bold]   "
    "[bold]fedbreast rotate consortium server[/bold]",
)
def rotate(folder: Folder, name: Annotated[str, typer.Argument(help="A site, or `server`, or `observer`.")]) -> None:
    """Give a member new keys and a new certificate; the old ones are revoked at once."""
    from server.deployment.provisioning import members

    made = members.rotate(folder, name, datetime.now(UTC))
    _say(f"{name}: new keys; the old certificate is revoked. Hand out again:")
    _show_folders(folder, made)


@consortium_app.command(epilog="Example: [bold]fedbreast revoke consortium centre-a[/bold]")
def revoke(folder: Folder, name: Annotated[str, typer.Argument(help="A site.")]) -> None:
    """Shut a site out: its certificate is revoked, and the server forgets its node."""
    from server.deployment.provisioning import members

    made = members.revoke(folder, name, datetime.now(UTC))
    _say(f"{name}: revoked. It is shut out as soon as the server's machine has this:")
    _show_folders(folder, made)


@consortium_app.command(
    epilog="Examples: [bold]fedbreast expiry consortium[/bold]   [bold]fedbreast expiry consortium/server[/bold]"
)
def expiry(folder: Annotated[Path, typer.Argument(help="A consortium's folder, or one kit.")]) -> None:
    """Show how long certificates hold. Exit 3 when one ends soon (`warn_days`) or has ended."""
    from server.deployment.provisioning.expiry import expiring

    found = expiring(folder, datetime.now(UTC))
    table = Table(title=f"certificates of {folder.resolve().name}")
    for column, side in (("role", "left"), ("name", "left"), ("until", "left"), ("days left", "right"), ("", "left")):
        table.add_column(column, justify=side)  # type: ignore[arg-type]
    for item in found:
        state = "EXPIRED" if item.expired else "renew" if item.soon else "good"
        style = "red" if item.expired else "yellow" if item.soon else None
        entry = item.certificate
        table.add_row(entry.role, entry.name, f"{entry.until:%Y-%m-%d}", str(item.days_left), state, style=style)
    display.console.print(table)
    if any(item.soon for item in found):
        _say("the coordinator renews with `fedbreast rotate DIR NAME`; an authority ends with its consortium")
        raise typer.Exit(EXPIRES_SOON)


def _show_folders(root: Path, made: Handout) -> None:
    _say(f"{root}/")
    last = list(made.until)[-1]
    for name, until in made.until.items():
        purpose = _PURPOSE.get(name, "to this hospital alone, by a channel you trust")
        _say(f"{'└' if name == last else '├'}── {name + '/':<12} until {until:%Y-%m-%d}  {purpose}")


def _say(text: str, style: str | None = None) -> None:
    display.console.print(text, style=style, soft_wrap=True, highlight=False, markup=False)
