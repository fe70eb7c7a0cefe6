"""`fedbreast study`: options, the plan that it prints, and the progress of its cells."""

from __future__ import annotations

import time
from collections import Counter
from math import ceil, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import TaskID
from rich.table import Table

from server.commands import display
from server.commands.run import existing
from server.studies.design import Cell, Design, finished
from shared.config.run_config import RunConfig, load_config, parse_config
from shared.errors import ConfigError
from shared.runtime import terminal
from shared.runtime.project import project_root

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

    from server.studies.runner import Moment
    from server.studies.time_estimate import StudyTime

_SETTLED_S = 30.0
"""Expected seconds of finished work from which the measured pace of a kind is used."""
_KINDS = {
    "extract": "read a centre's images",
    "prepare": "plan and prepare a fold",
    "train": "train a model",
    "evaluate": "evaluate a fold's models",
}


def study(
    config: Annotated[Path | None, typer.Argument(help="The TOML file (default: configs/study.toml).")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the study (default: below runs/).")] = None,
    seeds: Annotated[str, typer.Option(help="Training seeds, with commas; instead of the configuration's.")] = "",
    arms: Annotated[str, typer.Option(help="Of local, federated, pooled, ensemble, with commas.")] = "",
    held_out: Annotated[str, typer.Option(help="Centres to leave out, with commas; otherwise every one.")] = "",
    jobs: Annotated[int, typer.Option(min=0, help="Cells at once; 0: as many as cores or GPUs allow.")] = 0,
    ray: Annotated[str, typer.Option(help="Address of a Ray cluster that shares the folder, or `auto`.")] = "",
    dry_run: Annotated[bool, typer.Option(help="Print the plan and how long it will take; do nothing.")] = False,
) -> None:
    """Leave every centre out once: local, federated, pooled and ensemble arms, evaluated where they never trained.

    A study that was stopped goes on where it was when it is called again; finished cells are not run again.
    """
    settings = load_config(existing(config or Path("configs/study.toml")))
    settings = with_options(settings, seeds=seeds, arms=arms, held_out=held_out)
    name = settings.name if settings.name.startswith("study") else f"study-{settings.name}"
    root = out or project_root() / "runs" / name
    design = Design(settings)
    for fold in design.folds:
        design.fold(fold)  # an impossible fold is refused before anything is timed
    if not dry_run:
        from server.deployment.simulation import check_data

        check_data(settings)  # so are centres that are not there, before the folder keeps the configuration
    from server.studies.runner import jobs_here
    from server.studies.time_estimate import estimate

    workers = jobs or jobs_here(settings.compute.threads)
    with terminal.console.status("timing the networks"):
        expected = estimate(design)
    done = [cell for cell in expected.seconds if finished(root, cell)]
    show_plan(design, expected, done, workers, root)
    if dry_run:
        return
    from server.studies.run_study import run_study

    with display.bars() as bars:
        study_bars = StudyBars(bars, expected, workers, done)
        try:
            report = run_study(
                settings,
                root,
                jobs=workers,
                ray_address=ray,
                on_progress=display.PhaseBars(bars).report,
                on_moment=study_bars.report,
            )
        except KeyboardInterrupt:
            terminal.errors.print("stopped; call the same again to go on: finished cells are kept", markup=False)
            raise typer.Exit(terminal.INTERRUPTED) from None
    show_summary(root)
    terminal.say(f"report: {report}")


def with_options(config: RunConfig, *, seeds: str, arms: str, held_out: str) -> RunConfig:
    """The configuration with the seeds, arms and centres of the command line."""
    raw = config.model_dump(mode="json", exclude_none=True)
    own: dict[str, Any] = raw["study"]
    if seeds:
        try:
            own["seeds"] = [int(item) for item in seeds.split(",")]
        except ValueError as error:
            raise ConfigError(f"--seeds takes whole numbers with commas, as in 0,1,2 (given: {seeds!r})") from error
    for key, text in (("arms", arms), ("held_out", held_out)):
        if text:
            own[key] = [item.strip() for item in text.split(",")]
    return parse_config(raw, "fedbreast study")


def show_plan(design: Design, expected: StudyTime, done: list[Cell], jobs: int, root: Path) -> None:
    """Print the number of cells of each kind and how long they will take."""
    study = design.config.study
    table = Table(title=f"{design.config.name}: {len(design.folds)} centres left out, one at a time")
    for column, side in (("cells", "left"), ("number", "right"), ("finished", "right"), ("one worker", "right")):
        table.add_column(column, justify=side)  # type: ignore[arg-type]
    numbers, finished = Counter(cell.kind for cell in expected.seconds), Counter(cell.kind for cell in done)
    for kind, text in _KINDS.items():
        seconds = sum(value for cell, value in expected.seconds.items() if cell.kind == kind and cell not in set(done))
        table.add_row(text, str(numbers[kind]), str(finished[kind]), _duration(seconds))  # type: ignore[index]
    terminal.console.print(table)
    seeds = ", ".join(map(str, study.seeds))
    terminal.say(
        f"left out: {', '.join(design.folds)}; arms: {', '.join(study.arms)}; tasks: {', '.join(design.config.tasks)}; "
        f"seeds: {seeds}\nabout {_duration(expected.left(done, {}, jobs))} on {jobs} at once (cached images are read "
        f"faster); folder: {root}"
    )


def show_summary(root: Path) -> None:
    """Print each task's first metric for every arm, pooled over all centres that were left out."""
    from server.reports.metric_text import fixed
    from server.run_folder.finished_study import read_finished_study

    study = read_finished_study(root)
    which, summary = study.provenance.phantom_sites, study.tables.summary
    phantom = f"PHANTOM DATA at {', '.join(which)}, " if which else "PHANTOM DATA, " if study.phantom else ""
    whole = summary[(summary["centre"] == "all") & (summary["role"] == "external")]
    for task, rows in whole.groupby("task", sort=False):
        metric = rows["metric"].iloc[0]
        table = Table(title=f"{phantom}{task}: {metric} at centres that did not train, mean of the seeds")
        for column in ("arm", "value", "interval", "cases"):
            table.add_column(column, justify="left" if column == "arm" else "right")
        for row in rows[rows["metric"] == metric].itertuples():
            bounds = f"{row.ci_low:.3f} to {row.ci_high:.3f}" if isfinite(row.ci_low) else ""
            table.add_row(str(row.arm), fixed(row.value, 3), bounds, str(row.n))
        terminal.console.print(table)


class StudyBars:
    """One bar for the study and one per running cell; away from a terminal one line per finished cell."""

    def __init__(self, bars: Bars, expected: StudyTime, jobs: int, done: list[Cell]) -> None:
        self.bars = bars
        self.expected = expected
        self.jobs = jobs
        self.before = frozenset(done)
        self.seen = set(done)
        self.began: dict[Cell, float] = {}
        self.took: dict[Cell, float] = {}
        self.whole: TaskID | None = None
        self.tasks: dict[Cell, TaskID] = {}

    def report(self, moment: Moment) -> None:
        """Show the study's progress."""
        shares = {cell: share for cell, (share, _) in moment.running.items()}
        waits = len(moment.done) < moment.total
        left = f", about {_duration(self._left(moment, shares))} left" if waits else ""
        if not terminal.console.is_terminal:
            for cell in [cell for cell in moment.done if cell not in self.seen]:
                line = f"{len(moment.done)}/{moment.total} {cell.name}{left}"
                terminal.say(line)
            self.seen |= set(moment.done)
            return
        if self.whole is None:
            self.whole = self.bars.add_task("study", total=moment.total, text="")
        self.bars.update(self.whole, completed=len(moment.done), text=f"cells{left}")
        for cell in [cell for cell in self.tasks if cell not in moment.running]:
            self.bars.remove_task(self.tasks.pop(cell))
        for cell, (share, text) in moment.running.items():
            if cell not in self.tasks:
                self.tasks[cell] = self.bars.add_task(f"  {cell.name}", total=100, text="")
            self.bars.update(self.tasks[cell], completed=100 * share, text=f"% {text}")

    def _left(self, moment: Moment, shares: dict[Cell, float]) -> float:
        """Seconds left, from the pace of the cells of each kind that this call has run."""
        now = time.monotonic()
        for cell in [*moment.running, *moment.done]:
            if cell not in self.before:
                self.began.setdefault(cell, now)
                if cell in moment.running:
                    self.took[cell] = now - self.began[cell]
        paces = {}
        for kind in _KINDS:
            shown = [cell for cell in self.took if cell.kind == kind]
            expected = sum(self.expected.seconds[cell] * shares.get(cell, 1.0) for cell in shown)
            if expected > _SETTLED_S:
                paces[kind] = sum(self.took[cell] for cell in shown) / expected
        return self.expected.left(moment.done, shares, self.jobs, paces)


def _duration(seconds: float) -> str:
    minutes = ceil(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"  # noqa: PLR2004 - two hours
