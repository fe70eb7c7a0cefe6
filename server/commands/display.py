"""What the command line shows: progress as bars or lines, a table of metrics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from server.run_folder.arms import END_TO_END, FEDERATED
from shared.runtime import terminal
from shared.runtime.progress import PHASES
from shared.tasks import task_named

if TYPE_CHECKING:
    from server.run_folder.results import Results


def show_results(results: Results) -> None:
    """Print the external metrics of each task's best model: those that its pages show beside their table of all."""
    empty = True
    for name, trained in results.provenance.tasks.items():
        metrics = {metric.name: metric for metric in task_named(name).metrics if metric.shown}
        order = list(metrics)
        rows = [
            row
            for row in results.rows
            if (row.task, row.role, row.model_hash) == (name, "external", trained.best)
            and row.metric in metrics
            and (row.arm == FEDERATED or (row.arm == END_TO_END and "card" in metrics[row.metric].shown))
        ]
        if not any(row.n for row in rows):
            continue
        empty = False
        made = results.provenance
        which = f" at {', '.join(made.phantom_sites)}" if made.phantom_sites else ""
        data = f"PHANTOM DATA{which}, " if made.phantom else ""
        title = f"{data}{name} at {rows[0].centre}, which did not train; model of round {trained.best_round}"
        table = Table(title=title)
        table.add_column("metric")
        for column in ("value", "interval", "n"):
            table.add_column(column, justify="right")
        for row in sorted(rows, key=lambda item: (order.index(item.metric), item.arm != FEDERATED)):
            unit = "" if row.unit == "1" else f" {row.unit}"
            bounds = "" if row.ci_low is None or row.ci_high is None else f"{row.ci_low:.3g} to {row.ci_high:.3g}"
            text = row.metric if row.arm == FEDERATED else f"{row.metric}, {row.arm.partition(':')[2]}"
            table.add_row(text, "-" if row.value is None else f"{row.value:.3g}{unit}", bounds, str(row.n))
        terminal.console.print(table)
    if empty:
        terminal.console.print("no external centre: see results.csv for the training sites' metrics")


@contextmanager
def bars() -> Iterator[Bars]:
    """Progress bars on a terminal; elsewhere they stay silent and `PhaseBars` prints lines."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TextColumn("{task.fields[text]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    # Speed is estimated over the last hour: a round is a single step of many seconds.
    silent = not terminal.console.is_terminal
    with Bars(*columns, console=terminal.console, disable=silent, speed_estimate_period=3600) as progress:
        yield progress


class PhaseBars:
    """Shows progress: one bar per phase, or away from a terminal one line per change."""

    def __init__(self, on: Bars) -> None:
        self.bars = on
        self.tasks: dict[str, TaskID] = {}

    def report(self, phase: str, done: int, total: int, text: str) -> None:
        """Show the progress of a phase."""
        if phase in {"done", "failed"}:
            self._settle(whole=phase == "done")
            return
        label = PHASES.get(phase, phase)
        if not terminal.console.is_terminal:
            terminal.say(f"{label} {done}/{total} {text}".rstrip())
            return
        if phase not in self.tasks:
            self._settle(whole=True)
            self.tasks[phase] = self.bars.add_task(label, total=total, text=text)
        self.bars.update(self.tasks[phase], completed=done, total=total, text=text)

    def _settle(self, *, whole: bool) -> None:
        """Stop the clocks of the phases so far; `whole`: they were finished, as when another phase follows."""
        for task in self.bars.tasks:
            if whole:
                self.bars.update(task.id, completed=task.total)
            self.bars.stop_task(task.id)
