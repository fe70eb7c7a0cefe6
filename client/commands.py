"""The hospital's commands: `fedbreast approve` and `fedbreast serve-site`."""

from __future__ import annotations

import difflib
import getpass
import os
import shlex
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shared.runtime import terminal

if TYPE_CHECKING:
    from shared.runtime.app_bundle import Bundle

site_app = typer.Typer()


@site_app.command(
    epilog="Examples: [bold]fedbreast approve centre-a[/bold]   [bold]fedbreast approve centre-a app.fab[/bold]   "
    "[bold]fedbreast approve centre-a --look[/bold]   [bold]fedbreast approve centre-a --withdraw 3f9a[/bold]"
)
def approve(
    kit: Annotated[Path, typer.Argument(help="The site's kit.")],
    app: Annotated[Path | None, typer.Argument(help="A checkout or a .fab bundle (default: this checkout).")] = None,
    withdraw: Annotated[str, typer.Option(help="Take an approval back: the hash, or its first digits.")] = "",
    show: Annotated[bool, typer.Option("--list", help="List what is approved.")] = False,
    look: Annotated[
        bool, typer.Option(help="Show files and lines that differ from what was approved last, no more.")
    ] = False,
) -> None:
    """Approve an app by its content hash: this hospital's node runs it, and no other.

    Look at the code first. One changed byte of it is another hash, and needs an approval of its own.
    """
    from client.node.site_kit import SiteKit
    from shared.runtime.app_bundle import open_bundle
    from shared.runtime.audit_log import AuditLog
    from shared.runtime.project import project_root

    os.umask(0o022)  # the node's account reads the list, also where an administrator wrote it
    site = SiteKit(kit)
    audit = AuditLog(site.audit_file)
    if show:
        for item in site.approved():
            terminal.say(f"{item.sha256}  {item.app}  approved {item.at} by {item.by or 'nobody named'}")
        if not site.approved():
            terminal.say("nothing is approved: this node runs no app")
        return
    if withdraw:
        gone = site.withdraw(withdraw)
        audit.record("approval-withdrawn", site=site.name, app=gone.sha256)
        terminal.say(f"withdrawn: {gone.sha256}  {gone.app}; a running node starts anew without it")
        return
    bundle, before = open_bundle(app or project_root()), site.last_approved()
    _say_differences(bundle, before, lines=look)
    if look:
        terminal.say(f"content hash {bundle.sha256}; nothing is approved by looking")
        return
    site.keep(bundle)
    site.approve(bundle.sha256, bundle.name, getpass.getuser())
    audit.record("app-approved", site=site.name, app=bundle.sha256, files=len(bundle.files))
    terminal.say(f"approved for {site.name}: {bundle.name}, {len(bundle.files)} files")
    terminal.say(f"content hash {bundle.sha256}: the coordinator's `fedbreast run` prints the same one")


def _say_differences(bundle: Bundle, before: Bundle | None, *, lines: bool) -> None:
    """Print the files in which an app differs from the one approved before it, or all of them if there is none."""
    if before is None:
        folders = Counter(path.partition("/")[0] for path in sorted(bundle.files))
        terminal.say(f"nothing to compare with; its files: {', '.join(f'{name} {n}' for name, n in folders.items())}")
        for path in sorted(bundle.files) if lines else ():
            terminal.say(f"  {path}")
        return
    differ = bundle.differences(before)
    terminal.say(f"{len(differ)} of {len(bundle.files)} files differ from the app approved last, {before.sha256[:12]}")
    for path, how in differ.items():
        terminal.say(f"  {how}: {path}")
        old, new = (item.files.get(path, b"").decode(errors="replace").splitlines() for item in (before, bundle))
        for line in difflib.unified_diff(old, new, lineterm="", n=1) if lines else ():
            terminal.say(f"    {line}")


@site_app.command(epilog="Example: [bold]fedbreast serve-site centre-a[/bold]")
def serve_site(kit: Annotated[Path, typer.Argument(help="The site's kit.")]) -> None:
    """Run this hospital's node: it connects to the server, and only outwards. Ctrl-C ends it.

    It runs apps approved with [bold]fedbreast approve[/bold] and refuses all others before their code is unpacked.
    """
    from client.node.site_kit import SiteKit
    from client.node.supervisor import serve_site as keep_serving

    site = SiteKit(kit)
    terminal.say(f"{site.name}: data in {site.data}, server {site.server}; Ctrl-C ends it")
    if not site.approved():
        command = f"fedbreast approve {shlex.quote(str(kit))}"
        terminal.errors.print(f"no app is approved yet, so nothing will run: {command}", style="yellow", markup=False)
    try:
        keep_serving(site, terminal.say_event)
    except KeyboardInterrupt:
        terminal.errors.print("stopped")
        raise typer.Exit(terminal.INTERRUPTED) from None
