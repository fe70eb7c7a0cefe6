"""The coordinator's commands: `fedbreast provision`, `rotate`, `revoke` and `expiry`."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from shared.runtime import terminal

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

    handout = members.provision(file, out, datetime.now(UTC))
    _show_folders(out, handout)
    if handout.consortium.insecure:
        terminal.say("insecure = true changes nothing here: these kits use TLS and node keys", style="yellow")
    server = f"{handout.consortium.server.address}:{handout.consortium.server.port}"
    sites = ", ".join(name for name in handout.until if name in handout.consortium.site_names)
    if handout.first:
        terminal.say(
            f"warning: {out}/authority must stay offline. Whoever has its key can admit anybody.", style="yellow"
        )
        terminal.say("next:")
        terminal.say(f"  1. keep {out} on a medium that is no server's; back it up; it holds private keys")
        terminal.say(f"  2. hand out: {out}/server to {server}, and to each hospital its own folder: {sites}")
        terminal.say(
            f"  3. start: fedbreast serve {shlex.quote(f'{out}/server')}; "
            "at a hospital: fedbreast approve KIT, fedbreast serve-site KIT"
        )
        return
    terminal.say("next:")
    terminal.say(
        f"  1. copy {out}/server/sites and {out}/server/certificates to {server}; the server takes them up at once"
    )
    terminal.say(f"  2. hand each new hospital its own folder: {sites}")
    terminal.say("  3. start there: fedbreast approve KIT, fedbreast serve-site KIT")


@consortium_app.command(
    epilog="Examples: [bold]fedbreast rotate consortium centre-a[/bold]   "
    "[bold]fedbreast rotate consortium server[/bold]",
)
def rotate(folder: Folder, name: Annotated[str, typer.Argument(help="A site, or `server`, or `observer`.")]) -> None:
    """Give a member new keys and a new certificate; the old ones are revoked at once."""
    from server.deployment.provisioning import members

    handout = members.rotate(folder, name, datetime.now(UTC))
    terminal.say(f"{name}: new keys; the old certificate is revoked. Hand out again:")
    _show_folders(folder, handout)


@consortium_app.command(epilog="Example: [bold]fedbreast revoke consortium centre-a[/bold]")
def revoke(folder: Folder, name: Annotated[str, typer.Argument(help="A site.")]) -> None:
    """Shut a site out: its certificate is revoked, and the server forgets its node."""
    from server.deployment.provisioning import members

    handout = members.revoke(folder, name, datetime.now(UTC))
    terminal.say(f"{name}: revoked. It is shut out as soon as the server's machine has this:")
    _show_folders(folder, handout)


@consortium_app.command(
    epilog="Examples: [bold]fedbreast expiry consortium[/bold]   [bold]fedbreast expiry consortium/server[/bold]"
)
def expiry(folder: Annotated[Path, typer.Argument(help="A consortium's folder, or one kit.")]) -> None:
    """Show how long certificates are valid. Exit 3 when one ends soon (`warn_days`) or has ended."""
    from server.deployment.provisioning.expiry import certificate_expiry

    certificates = certificate_expiry(folder, datetime.now(UTC))
    table = Table(title=f"certificates of {folder.resolve().name}")
    for column, side in (("role", "left"), ("name", "left"), ("until", "left"), ("days left", "right"), ("", "left")):
        table.add_column(column, justify=side)  # type: ignore[arg-type]
    for item in certificates:
        state = "EXPIRED" if item.expired else "renew" if item.soon else "good"
        style = "red" if item.expired else "yellow" if item.soon else None
        entry = item.certificate
        table.add_row(entry.role, entry.name, f"{entry.until:%Y-%m-%d}", str(item.days_left), state, style=style)
    terminal.console.print(table)
    if any(item.soon for item in certificates):
        terminal.say("the coordinator renews with `fedbreast rotate DIR NAME`; an authority ends with its consortium")
        raise typer.Exit(EXPIRES_SOON)


def _show_folders(root: Path, handout: Handout) -> None:
    terminal.say(f"{root}/")
    last = list(handout.until)[-1]
    for name, until in handout.until.items():
        purpose = _PURPOSE.get(name, "to this hospital alone, by a channel you trust")
        terminal.say(f"{'└' if name == last else '├'}── {name + '/':<12} until {until:%Y-%m-%d}  {purpose}")
