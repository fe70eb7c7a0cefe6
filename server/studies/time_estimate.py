"""What a study will take: each cell's seconds, from a trial of the network on this machine and rules of thumb."""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from server.studies.design import Cell, Design, training_steps
from shared.cohort.manifest import TABLE_NAME
from shared.config.run_config import RunConfig
from shared.inference import pick_device
from shared.runtime.project import project_root
from shared.tasks import task_named

# Rules of thumb, seconds a case on one core: reading with N4, resampling, and measuring a case's surfaces.
_READ_S, _RESAMPLE_S, _MEASURE_S = 2.0, 0.15, 0.05


@dataclass(frozen=True, slots=True)
class StudyTime:
    """Expected seconds of each cell on one worker."""

    seconds: Mapping[Cell, float]

    def left(
        self, done: Sequence[Cell], shares: Mapping[Cell, float], jobs: int, paces: Mapping[str, float] | None = None
    ) -> float:
        """Seconds to go on `jobs` workers.

        `shares` says how much of each running cell is done, `paces` by kind of cell how many times as long as expected
        they took so far.
        """
        finished, known = set(done), paces or {}
        rest = [
            seconds * (1 - shares.get(cell, 0.0)) * known.get(cell.kind, 1.0)
            for cell, seconds in self.seconds.items()
            if cell not in finished
        ]
        # No sooner than the longest cell.
        return max([sum(rest) / jobs, *rest], default=0.0)


def estimate(design: Design) -> StudyTime:
    """Estimate every cell; trains each task's network for two steps on noise."""
    cases = {name: _count(design.config, name) for name in design.config.centres}
    steps = {task: _step_seconds(design.config.for_task(task)) for task in design.config.tasks}
    seconds = {}
    for cell in design.cells():
        training = design.training(cell.centre) if cell.kind != "extract" else ()
        if cell.kind == "extract":
            seconds[cell] = _READ_S * cases[cell.centre]
        elif cell.kind == "prepare":
            seconds[cell] = _RESAMPLE_S * sum(cases[name] for name in training)
        elif cell.kind == "train":
            seconds[cell] = _train_seconds(cell, design, cases, steps[cell.task or design.config.task])
        else:
            view = design.config.for_task(cell.task or design.config.task)
            number = cases[cell.centre] + sum(cases[name] for name in training) * view.splits.test
            arms = len(design.trained_arms(cell.centre)) + ("ensemble" in view.study.arms)
            seconds[cell] = number * (arms * _evaluate_seconds(view, steps[view.task]) + _RESAMPLE_S)
    return StudyTime(seconds)


def _train_seconds(cell: Cell, design: Design, cases: Mapping[str, int], step: float) -> float:
    view = design.config.for_task(cell.task or design.config.task)
    local = cell.arm.partition(":")[2]
    sites = [local] if local else design.training(cell.centre)
    validated = (
        sum(cases[name] for name in sites)
        * view.splits.validation
        * view.federation.rounds
        / view.federation.evaluate_every
    )
    return training_steps(cell, design) * step + validated * _evaluate_seconds(view, step)


def _evaluate_seconds(view: RunConfig, step: float) -> float:
    """Of one case: a third of a training step's share of it, and what is measured on it."""
    return step / 3 * len(view.inference.copies) / view.training.batch_size + _MEASURE_S


def _step_seconds(view: RunConfig) -> float:
    """Seconds of a training step of a task's network, on noise of the size it will read."""
    learner, device = task_named(view.task).learner, pick_device(view)
    torch.set_num_threads(view.compute.threads)
    shape = (view.training.batch_size, *learner.shape(view))
    noise = torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(device)
    model = learner.build_model(view).to(device).train()
    best = float("inf")
    for _ in range(2):
        started = time.perf_counter()
        torch.stack([output.float().mean() for output in model(noise)]).sum().backward()  # type: ignore[no-untyped-call]
        best = min(best, time.perf_counter() - started)
    return best


def _count(config: RunConfig, centre: str) -> int:
    """Rows of a centre's table; before phantoms are made, as many as there will be."""
    table = project_root() / config.data.root / centre / TABLE_NAME
    if table.is_file():
        with table.open(newline="", encoding="utf-8", errors="replace") as stream:
            return max(0, sum(1 for row in csv.reader(stream) if row) - 1)
    phantom = config.data.phantom
    if phantom is None:
        return 0
    cancers = phantom.cases_external if centre == "centre-d" else phantom.cases_per_site
    return cancers + phantom.cases_benign
