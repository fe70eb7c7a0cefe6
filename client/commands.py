"""The hospital's commands: `fedbreast join`, `approve` and `serve-site`."""

from __future__ import annotations

import difflib
import getpass
import os
import shlex
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shared.runtime import terminal

if TYPE_CHECKING:
    from client.node.site_kit import SiteKit
    from shared.runtime.app_bundle import Bundle
    from shared.runtime.audit_log import AuditLog

site_app = typer.Typer()


@site_app.command(
    epilog="Examples: [bold]fedbreast join centre-a --name centre-a[/bold]   "
    "[bold]fedbreast join centre-a centre-a.kit[/bold]"
)
def join(
    kit: Annotated[Path, typer.Argument(help="This hospital's folder; made if need be.")],
    answer: Annotated[Path | None, typer.Argument(metavar="[NAME.kit]", help="What the coordinator sent back.")] = None,
    name: Annotated[str, typer.Option(help="This site's name, as agreed; a kit knows its own.")] = "",
    fingerprint: Annotated[
        str, typer.Option(help="With NAME.kit: the consortium's, as the coordinator told it; asked for if left out.")
    ] = "",
) -> None:
    """Make this hospital's keys and a request to be admitted with them; with the coordinator's answer, install it.

    The keys stay in this folder: the coordinator signs their public halves and never sees more. To renew them call it
    again; the old ones work until the new request is admitted.
    """
    from client.node import admission

    if answer is None:
        path, request = admission.ask_to_join(kit, name)
        terminal.say(f"keys made here, and kept in {kit / 'keys'}: they never leave it")
        terminal.say(f"the request's fingerprint: {request.fingerprint}")
        terminal.say("next:")
        terminal.say(f"  1. send {path} to the coordinator, by mail if you like: it holds no secret")
        terminal.say("  2. by telephone, on a number you knew before: read the coordinator this fingerprint, and write")
        terminal.say("     down the consortium's, which you are told")
        terminal.say(f"  3. with the file that comes back: fedbreast join {shlex.quote(str(kit))} {request.name}.kit")
        return
    told = fingerprint or typer.prompt("The consortium's fingerprint, as the coordinator told you by telephone")
    installed = admission.take_in(kit, answer, told, datetime.now(UTC))
    terminal.say(f"{kit} is the kit of {installed.site}, signed by the consortium whose fingerprint you were told")
    terminal.say(f"next: read {kit / 'README.md'}; fedbreast approve {shlex.quote(str(kit))}, and with")
    terminal.say("  --configuration what a run asks; then fedbreast serve-site")


@site_app.command(
    epilog="Examples: [bold]fedbreast approve centre-a[/bold]   [bold]fedbreast approve centre-a app.fab[/bold]   "
    "[bold]fedbreast approve centre-a --configuration run.toml[/bold]   "
    "[bold]fedbreast approve centre-a --look[/bold]   [bold]fedbreast approve centre-a --withdraw 3f9a[/bold]"
)
def approve(
    kit: Annotated[Path, typer.Argument(help="The site's kit.")],
    app: Annotated[Path | None, typer.Argument(help="A checkout or a .fab bundle (default: this checkout).")] = None,
    configuration: Annotated[
        Path | None, typer.Option(help="Approve a run's configuration (a TOML file); an app is approved apart.")
    ] = None,
    withdraw: Annotated[str, typer.Option(help="Take an approval back: the hash, or its first digits.")] = "",
    show: Annotated[bool, typer.Option("--list", help="List what is approved.")] = False,
    look: Annotated[
        bool, typer.Option(help="Show files and lines that differ from what was approved last, no more.")
    ] = False,
) -> None:
    """Approve an app by its content hash, or what a run will ask of it: this hospital's node does nothing else.

    Look at the code first. One changed byte of it is another hash, and needs an approval of its own. Of a configuration
    is shown in plain words what it asks, and what is new against the one approved before.
    """
    from client.node.approved_configurations import approved_configurations
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
        for entry in approved_configurations(site):
            terminal.say(f"{entry.sha256}  configuration {entry.name}  approved {entry.at} by {entry.by}")
        if not site.approved() or not approved_configurations(site):
            missing = "app" if not site.approved() else "configuration"
            terminal.say(f"no {missing} is approved: this node does nothing")
        return
    if configuration:
        _approve_configuration(site, audit, configuration, look=look)
        return
    if withdraw and _withdraw_configuration(site, audit, withdraw):
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


def _approve_configuration(site: SiteKit, audit: AuditLog, path: Path, *, look: bool) -> None:
    """Show what a run of the configuration would ask, and approve it unless this is a `look`."""
    from client.node.approved_configurations import approve_configuration, approved_configurations
    from client.node.run_request import changes, told
    from shared.cohort.site_folder import open_site_folder
    from shared.config.run_config import load_config
    from shared.errors import SiteError
    from shared.policy import without_floors

    terminal.say(f"reading {path} and the tasks of this version: a moment")
    config = load_config(path)
    before = [entry for entry in approved_configurations(site) if entry.sha256 != config.hash()]
    try:
        policy = without_floors(site.node.policy) if open_site_folder(site.data).phantom else site.node.policy
    except SiteError:  # no data there yet
        policy = site.node.policy
    for line in told(config, site.name, policy):
        terminal.say(line)
    if before:
        terminal.say(f"against '{before[-1].name}', approved {before[-1].at}:")
        for line in changes(before[-1], config) or ["nothing is new"]:
            terminal.say(f"  {line}")
    if look:
        terminal.say(f"hash {config.hash()}; nothing is approved by looking")
        return
    entry = approve_configuration(site, config)
    audit.record("configuration-approved", site=site.name, configuration=entry.sha256)
    terminal.say(f"approved for {site.name}: configuration {entry.name}, hash {entry.sha256}")
    terminal.say(f"take it back with: fedbreast approve {shlex.quote(str(site.folder))} --withdraw {entry.sha256[:12]}")


def _withdraw_configuration(site: SiteKit, audit: AuditLog, digest: str) -> bool:
    """Take the approval of a configuration back; False where none, or more than one, has a hash that begins so."""
    from client.node.approved_configurations import approved_configurations, withdraw_configuration

    matches = [entry for entry in approved_configurations(site) if entry.sha256.startswith(digest)]
    if len(matches) != 1:
        return False
    withdraw_configuration(site, matches[0])
    audit.record("configuration-withdrawn", site=site.name, configuration=matches[0].sha256)
    terminal.say(f"withdrawn: configuration {matches[0].name}, {matches[0].sha256}")
    return True


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
    from client.node.approved_configurations import approved_configurations
    from client.node.site_kit import SiteKit
    from client.node.supervisor import serve_site as keep_serving

    site = SiteKit(kit)
    terminal.say(f"{site.name}: data in {site.data}, server {site.server}; Ctrl-C ends it")
    command = f"fedbreast approve {shlex.quote(str(kit))}"
    for what, approved, option in (
        ("app", site.approved(), ""),
        ("configuration", approved_configurations(site), " --configuration RUN.toml"),
    ):
        if not approved:
            text = f"no {what} is approved yet, so nothing will run: {command}{option}"
            terminal.errors.print(text, style="yellow", markup=False)
    try:
        keep_serving(site, terminal.say_event)
    except KeyboardInterrupt:
        terminal.errors.print("stopped")
        raise typer.Exit(terminal.INTERRUPTED) from None
