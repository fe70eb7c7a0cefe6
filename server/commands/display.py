"""What the command line shows: progress as bars or lines, a table of metrics, a table of cases."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from shared.runtime import terminal
from shared.runtime.progress import PHASES

if TYPE_CHECKING:
    from server.run_folder.results import Results
    from shared.cohort.preflight import Cohort, Exclusion

SUMMARY = (
    *("dice", "nsd", "hd95", "sensitivity", "ppv", "lesion_f1", "volume_icc_a1", "failure_share", "no_overlap"),
    *("dice_breast", "dice_fibroglandular", "hd95_breast", "hd95_fibroglandular"),
    *("mae_density", "mae_density_of_mean", "bias_density", "icc_a1_density"),
    *("auc_macro", "auc_luminal_a", "auc_luminal_b", "auc_her2_enriched", "auc_triple_negative"),
    *("auc_er", "auc_pr", "auc_her2", "auc_malignant", "mae_ki67", "mae_ki67_of_mean"),
)
ARMS = ("federated", "federated:end-to-end")


def show_results(results: Results) -> None:
    """Print the metrics of each task's best model at the external centre."""
    empty = True
    for task, trained in results.provenance.tasks.items():
        rows = [
            row
            for row in results.rows
            if (row.task, row.role, row.model_hash) == (task, "external", trained.best) and row.arm in ARMS
        ]
        rows = [row for row in rows if row.metric in SUMMARY and (row.arm == ARMS[0] or row.metric == "auc_macro")]
        if not any(row.n for row in rows):
            continue
        empty = False
        data = "PHANTOM DATA, " if results.provenance.phantom else ""
        title = f"{data}{task} at {rows[0].centre}, which did not train; model of round {trained.best_round}"
        table = Table(title=title)
        table.add_column("metric")
        for column in ("value", "interval", "n"):
            table.add_column(column, justify="right")
        for row in sorted(rows, key=lambda item: (SUMMARY.index(item.metric), ARMS.index(item.arm))):
            unit = "" if row.unit == "1" else f" {row.unit}"
            bounds = "" if row.ci_low is None or row.ci_high is None else f"{row.ci_low:.3g} to {row.ci_high:.3g}"
            name = row.metric if row.arm == ARMS[0] else f"{row.metric}, {row.arm.partition(':')[2]}"
            table.add_row(name, "-" if row.value is None else f"{row.value:.3g}{unit}", bounds, str(row.n))
        terminal.console.print(table)
    if empty:
        terminal.console.print("no external centre: see results.csv for the training sites' metrics")


def show_cohort(cohort: Cohort, excluded: Sequence[Exclusion], tissues: Sequence[Exclusion] = ()) -> None:
    """Print counts, reasons and flags; rows by number only. `tissues`: left out of breast-segmentation alone."""
    total = len(cohort.cases) + len(cohort.exclusions)
    kind = " (PHANTOM)" if cohort.folder.kind == "phantom" else ""
    table = Table(title=f"{cohort.folder.name}: {total} cases{kind}")
    for column in ("state", "cases", "rows of cases.csv"):
        table.add_column(column, justify="right" if column == "cases" else "left")
    table.add_row("usable", str(total - len(excluded)), "")
    for state, items in (("left out", excluded), ("usable, but breast or fibroglandular mask", tissues)):
        by_reason: dict[str, list[int]] = defaultdict(list)
        for item in items:
            by_reason[item.reason].append(item.row)
        for reason, rows in sorted(by_reason.items()):
            table.add_row(f"{state}: {reason}", str(len(rows)), ", ".join(map(str, sorted(rows))))
    terminal.console.print(table)
    if tissues:
        terminal.console.print(f"left out of breast-segmentation alone: {len(tissues)}; other tasks use them")
    for flag in cohort.flags:
        terminal.console.print(f"row {flag.row}: {flag.message}", markup=False, highlight=False)


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
