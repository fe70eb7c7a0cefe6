"""The command line `fedbreast`. Heavy libraries are imported where a command needs them."""

from __future__ import annotations

import errno
import getpass
import os
import signal
import sys
import time
from importlib.metadata import entry_points
from importlib.metadata import version as installed
from pathlib import Path
from typing import Annotated

import typer

from server.commands import display
from server.commands.check import check
from server.commands.run import existing, run_federation, run_folder
from server.commands.study import study
from shared.atomic_files import is_full
from shared.errors import ConfigError, FedBreastError, SiteError
from shared.runtime import terminal
from shared.runtime.project import project_root

_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR})
DEMO = Path("configs/quick.toml")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Federated deep learning for breast imaging. Research software, not a medical device.",
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"fedbreast {installed('fedbreast')}")
        raise typer.Exit


@app.callback()
def common(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Federated deep learning for breast imaging. Research software, not a medical device."""


@app.command(epilog="Example: [bold]fedbreast demo[/bold]")
def demo(fresh: Annotated[bool, typer.Option(help="Make the phantoms anew first.")] = False) -> None:
    """Train on three phantom hospitals, evaluate on a fourth, print the report's path."""
    from shared.config.run_config import load_config
    from shared.phantom.generate import remove_phantom

    config = load_config(project_root() / DEMO)
    data = project_root() / config.data.root
    if fresh and data.exists():
        if not (data / "phantom.json").is_file():
            raise SiteError(f"{data} holds no phantom and is left alone: move it, or change data.root in {DEMO}")
        remove_phantom(data)
    run_federation(project_root() / DEMO, config, f"{config.name}-{_now()}")


@app.command(
    epilog="Examples: [bold]fedbreast run configs/quick.toml --name first[/bold]   "
    "[bold]fedbreast run --resume first[/bold]   "
    "[bold]fedbreast run configs/quick.toml --server consortium/server[/bold]"
)
def run(
    config: Annotated[Path | None, typer.Argument(help="The run's TOML file (default: configs/quick.toml).")] = None,
    name: Annotated[str, typer.Option(help="Folder below runs/; empty: the config's name and the time.")] = "",
    resume: Annotated[str, typer.Option(help="Go on with the run of this name.")] = "",
    seed: Annotated[int | None, typer.Option(min=0, help="Instead of the configuration's.")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="Instead of the configuration's.")] = None,
    held_out: Annotated[str, typer.Option(help="Leave this centre out as the external one; all others train.")] = "",
    server: Annotated[Path | None, typer.Option(help="Kit of a served consortium; else a simulation here.")] = None,
) -> None:
    """Run a federation: a simulation on this machine, or on the hospitals of a consortium (--server)."""
    from shared.config.run_config import load_config

    if resume:
        if config or name or seed is not None or rounds is not None or held_out:
            raise ConfigError("--resume goes on with the run's own configuration, name, seed and rounds: give it alone")
        from server.run_folder.journal import RunFolder

        folder, settings = RunFolder.resume(run_folder(resume))
        folder.release()
        run_federation(folder.path / "config.toml", settings, resume, resume=resume, server=server)
        return
    path = existing(config or DEMO)
    settings = load_config(path)
    settings = settings.leaving_out(held_out) if held_out else settings
    run_name = name or f"{settings.name}-{_now()}"
    if (run_folder(run_name) / "config.toml").exists():
        raise ConfigError(f"runs/{run_name} already holds a run: choose another --name, or --resume {run_name}")
    options = (("seed", seed), ("rounds", rounds), ("held-out", held_out or None))
    overrides = {key: value for key, value in options if value is not None}
    run_federation(path, settings, run_name, overrides=overrides, server=server)


@app.command(epilog="Example: [bold]fedbreast phantom data/small --cases-per-site 6 --cases-external 4[/bold]")
def phantom(
    out: Annotated[Path, typer.Argument(help="Folder to write; one site folder a centre.")],
    cases_per_site: Annotated[int, typer.Option(min=2, help="Patients a training centre.")] = 36,
    cases_external: Annotated[int, typer.Option(min=2, help="Patients at the external centre.")] = 120,
    cases_benign: Annotated[int, typer.Option(min=0, help="Further patients a centre with a benign lesion.")] = 0,
    shift: Annotated[float, typer.Option(min=0.0, max=2.0, help="0: one protocol; 1: full differences.")] = 0.6,
    separation: Annotated[float, typer.Option(min=0.01, max=2.0, help="Distance of the subtypes' means.")] = 0.75,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    mammograms: Annotated[bool, typer.Option(help="CC and MLO of both breasts beside each MRI.")] = False,
) -> None:
    """Write a federation of phantom hospitals as DICOM; a stopped call goes on where it was."""
    from shared.phantom.generate import generate_federation
    from shared.phantom.settings import PhantomSettings

    settings = PhantomSettings(
        cases_per_site=cases_per_site,
        cases_external=cases_external,
        cases_benign=cases_benign,
        shift=shift,
        separation=separation,
        seed=seed,
        mammograms=mammograms,
    )
    with display.bars() as bars:
        task = bars.add_task("making phantoms", total=None, text="patients")
        generate_federation(
            out, settings, on_progress=lambda done, total: bars.update(task, completed=done, total=total)
        )
    terminal.say(f"phantoms: {out}")


app.command(
    epilog="Examples: [bold]fedbreast check data/phantom/centre-a[/bold]   "
    "[bold]fedbreast check data/phantom/centre-a --page check.html --json check.json[/bold]"
)(check)


@app.command(epilog="Examples: [bold]fedbreast report runs/latest[/bold]   [bold]fedbreast report runs/study[/bold]")
def report(folder: Annotated[Path, typer.Argument(help="Folder of a finished run or study.")]) -> None:
    """Build the report of a run or a study again from the same numbers."""
    if not folder.is_dir():
        raise ConfigError(f"there is no run folder {folder}: name one below {project_root() / 'runs'}")
    if (folder / "study.toml").is_file():
        from server.studies.run_study import make_report

        with terminal.console.status("statistics and figures, about half a minute"):
            path = make_report(folder)
    else:
        from server.reports.page import build_report

        path = build_report(folder)
    terminal.say(f"report: {path}")


@app.command(epilog="Example: [bold]fedbreast version --verbose[/bold]")
def version(
    verbose: Annotated[bool, typer.Option(help="With the program's content hash and the libraries' versions.")] = False,
) -> None:
    """Print the version; what a report of a fault should quote."""
    lines = [f"fedbreast {installed('fedbreast')}"]
    if verbose:
        from shared.runtime.app_bundle import open_bundle

        root = project_root()
        lines += [f"content hash {open_bundle(root).sha256} of {root}", f"python {sys.version.split()[0]}"]
        lines += [f"{name} {installed(name)}" for name in ("flwr", "torch", "monai", "numpy", "SimpleITK")]
    typer.echo("\n".join(lines))


app.command(
    epilog="Examples: [bold]fedbreast study configs/study.toml --dry-run[/bold]   "
    "[bold]fedbreast study configs/study.toml --seeds 0,1,2 --jobs 2[/bold]   "
    "[bold]fedbreast study configs/study.toml --held-out centre-d[/bold]"
)(study)
for _entry in sorted(entry_points(group="fedbreast.commands"), key=lambda item: item.name):
    app.add_typer(_entry.load())


def main() -> None:
    """Run the command line; an error of ours becomes one line and an exit code, never a traceback."""
    try:
        getpass.getuser()
    except (KeyError, OSError):  # a container's account without a line in /etc/passwd: torch and Ray ask for its name
        os.environ["LOGNAME"] = f"uid-{os.getuid()}"
    os.umask(0o077)  # patients' images are this user's alone, in the cache and in a run's pictures, too
    # `kill` and a closed terminal end the program as Ctrl-C does, tidily.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        app()
    except FedBreastError as error:
        terminal.errors.print(f"error: {error}", style="red", markup=False)
        sys.exit(error.exit_code)
    except OSError as error:
        where = f" to write {error.filename}" if error.filename else ""
        if is_full(error):
            why = f"no space left{where}: free some and call again"
        elif error.filename and error.errno in _REFUSED:
            why = f"{error.filename}: {error.strerror}; name another place, or change what this user may do there"
        else:
            raise
        terminal.errors.print(f"error: {why}", style="red", markup=False)
        sys.exit(FedBreastError.exit_code)


def _now() -> str:
    return time.strftime("%Y%m%d-%H%M%S")
