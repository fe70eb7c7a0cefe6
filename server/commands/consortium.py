"""The coordinator's commands: `fedbreast provision`, `admit`, `fingerprint`, `rotate`, `revoke` and `expiry`."""

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
    out: Annotated[Path, typer.Option(help="Folder to write, or to list new hospitals in.")] = Path("consortium"),
) -> None:
    """Make a consortium: its authority, and the kits of server and observer. Called again, list hospitals added since.

    No hospital's key is made here: each makes its own with [bold]fedbreast join[/bold].
    """
    from server.deployment.provisioning import members

    handout = members.provision(file, out, datetime.now(UTC))
    _show_folders(out, handout)
    if handout.consortium.insecure:
        terminal.say("insecure = true changes nothing here: these kits use TLS and node keys", style="yellow")
    if "authority" in handout.until:
        terminal.say(
            f"warning: {out}/authority must stay offline. Whoever has its key can admit anybody.", style="yellow"
        )
    terminal.say(f"the consortium's fingerprint: {handout.fingerprint}")
    terminal.say("next:")
    terminal.say(f"  1. keep {out} on a medium that is no server's; back it up; it holds private keys")
    terminal.say(f"  2. each hospital makes its keys and sends a request ({', '.join(handout.listed)}):")
    terminal.say("     fedbreast join FOLDER --name NAME")
    terminal.say("  3. by telephone the hospital reads you its request's fingerprint, and you read it the consortium's")
    terminal.say(f"  4. let it in: fedbreast admit {shlex.quote(str(out))} NAME NAME.request")


@consortium_app.command(
    epilog="Example: [bold]fedbreast admit consortium centre-a centre-a.request[/bold]",
)
def admit(
    folder: Folder,
    name: Annotated[str, typer.Argument(help="The hospital, as CONSORTIUM.toml lists it.")],
    request: Annotated[Path, typer.Argument(help="The request that `fedbreast join` wrote at the hospital.")],
    fingerprint: Annotated[
        str,
        typer.Option(
            help="The request's, as the hospital read it to you; asked for if left out.",
            prompt="The request's fingerprint, as the hospital read it to you by telephone",
        ),
    ],
) -> None:
    """Sign a hospital's request and write its kit, which holds no private key; what it had before is revoked.

    Call the hospital on a number that you knew before. Type what you hear: a request that was exchanged on its way has
    another fingerprint, and is refused.
    """
    from server.deployment.provisioning import members

    handout = members.admit(folder, name, request, fingerprint, datetime.now(UTC))
    terminal.say(f"{name}: admitted with the keys that it made itself. Hand out:")
    _show_folders(folder, handout)
    server = f"{handout.consortium.server.address}:{handout.consortium.server.port}"
    terminal.say(f"the consortium's fingerprint, for the hospital by telephone: {handout.fingerprint}")
    terminal.say("next:")
    terminal.say(f"  1. copy {folder}/server/sites and {folder}/server/certificates to {server}; it takes them up")
    terminal.say(f"  2. send {folder}/{name}.kit to the hospital, by mail if you like: it holds no secret")
    terminal.say(f"  3. there: fedbreast join FOLDER {name}.kit, fedbreast approve FOLDER, fedbreast serve-site FOLDER")


@consortium_app.command(
    epilog="Examples: [bold]fedbreast fingerprint centre-a.request[/bold]   "
    "[bold]fedbreast fingerprint consortium/authority/ca.crt[/bold]"
)
def fingerprint(
    file: Annotated[Path, typer.Argument(help="A hospital's request, or the certificate of a consortium's authority.")],
) -> None:
    """Print the fingerprint of a request, or of a consortium: thirty digits to compare by telephone."""
    from shared.errors import ConfigError
    from shared.runtime.exchange import authority_fingerprint, read_certificate, read_small_file
    from shared.runtime.signing_request import LARGEST_REQUEST, read_request

    content = read_small_file(file, LARGEST_REQUEST, "request or certificate")
    if b"CERTIFICATE REQUEST" in content:
        terminal.say(read_request(content).fingerprint)
        return
    try:
        terminal.say(authority_fingerprint(read_certificate(content)))
    except ValueError as error:
        raise ConfigError(f"{file} is neither a request nor a certificate: name one of them") from error


@consortium_app.command(
    epilog="Examples: [bold]fedbreast rotate consortium server[/bold]   "
    "[bold]fedbreast rotate consortium observer[/bold]",
)
def rotate(folder: Folder, name: Annotated[str, typer.Argument(help="`server` or `observer`.")]) -> None:
    """Give the server or the observer new keys and a new certificate; the old ones are revoked at once.

    A hospital renews its own: [bold]fedbreast join[/bold] there, then [bold]fedbreast admit[/bold] here.
    """
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
        terminal.say("to renew: a hospital calls `fedbreast join KIT` and is admitted again; server and observer are")
        terminal.say("renewed with `fedbreast rotate DIR server`; an authority ends with its consortium")
        raise typer.Exit(EXPIRES_SOON)


def _show_folders(root: Path, handout: Handout) -> None:
    terminal.say(f"{root}/")
    last = list(handout.until)[-1]
    for name, until in handout.until.items():
        purpose = _PURPOSE.get(name, "to this hospital; signed, and no secret")
        label = name if name.endswith(".kit") else f"{name}/"
        terminal.say(f"{'└' if name == last else '├'}── {label:<12} until {until:%Y-%m-%d}  {purpose}")
