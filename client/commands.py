"""The hospital's commands: `fedbreast approve` and `fedbreast serve-site`."""

from __future__ import annotations

import getpass
import shlex
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

site_app = typer.Typer()
console = Console(soft_wrap=True, highlight=False)
errors = Console(stderr=True, soft_wrap=True, highlight=False)
INTERRUPTED = 130


@site_app.command(
    epilog="Examples: [bold]fedbreast approve centre-a[/bold]   [bold]fedbreast approve centre-a app.fab[/bold]   "
    "[bold]fedbreast approve centre-a --withdraw 3f9a[/bold]"
)
def approve(
    kit: Annotated[Path, typer.Argument(help="The site's kit.")],
    app: Annotated[Path | None, typer.Argument(help="A checkout or a .fab bundle (default: this checkout).")] = None,
    withdraw: Annotated[str, typer.Option(help="Take an approval back: the hash, or its first digits.")] = "",
    show: Annotated[bool, typer.Option("--list", help="List what is approved.")] = False,
) -> None:
    """Approve an app by its content hash: this hospital's node runs it, and no other.

    Look at the code first. One changed byte is another hash, and needs an approval of its own.
    """
    from client.node.site_kit import SiteKit
    from shared.runtime.app_bundle import open_bundle
    from shared.runtime.audit_log import AuditLog
    from shared.runtime.project import project_root

    opened = SiteKit(kit)
    audit = AuditLog(opened.state / "audit.jsonl")
    if show:
        for item in opened.approved():
            console.print(f"{item.sha256}  {item.app}  approved {item.at} by {item.by or 'nobody named'}", markup=False)
        if not opened.approved():
            console.print("nothing is approved: this node runs no app")
        return
    if withdraw:
        gone = opened.withdraw(withdraw)
        audit.record("approval-withdrawn", site=opened.name, app=gone.sha256)
        console.print(f"withdrawn: {gone.sha256}  {gone.app}; a running node starts anew without it", markup=False)
        return
    bundle = open_bundle(app or project_root())
    opened.approve(bundle.sha256, bundle.name, getpass.getuser())
    audit.record("app-approved", site=opened.name, app=bundle.sha256, files=bundle.files)
    console.print(f"approved for {opened.name}: {bundle.name}, {bundle.files} files", markup=False)
    console.print(f"content hash {bundle.sha256}: the coordinator's `fedbreast run` prints the same one", markup=False)


@site_app.command(epilog="Example: [bold]fedbreast serve-site centre-a[/bold]")
def serve_site(kit: Annotated[Path, typer.Argument(help="The site's kit.")]) -> None:
    """Run this hospital's node: it connects to the server, and only outwards. Ctrl-C ends it.

    It runs apps approved with [bold]fedbreast approve[/bold] and refuses the rest before any of their code is unpacked.
    """
    from client.node.site_kit import SiteKit
    from client.node.supervisor import serve_site as keep_serving

    opened = SiteKit(kit)
    console.print(f"{opened.name}: data in {opened.data}, server {opened.server}; Ctrl-C ends it", markup=False)
    if not opened.approved():
        approve = f"fedbreast approve {shlex.quote(str(kit))}"
        errors.print(f"no app is approved yet, so nothing will run: {approve}", style="yellow", markup=False)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        keep_serving(opened, _say)
    except KeyboardInterrupt:
        errors.print("stopped")
        raise typer.Exit(INTERRUPTED) from None


def _say(event: str, facts: Mapping[str, Any]) -> None:
    words = " ".join(f"{key}={value}" for key, value in facts.items() if key != "site")
    console.print(f"{time.strftime('%H:%M:%S')} {event} {words}", markup=False)
