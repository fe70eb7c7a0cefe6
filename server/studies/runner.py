"""Runs a study's cells side by side: in processes of this machine, or on a Ray cluster whose machines share the folder.

A cell starts when those it waits for are finished; cells that an earlier call finished are not run again. A centre is
opened, for good, when every model of its fold is frozen.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.run_folder.external_access import open_once
from server.run_folder.journal import RunFolder
from server.studies.design import Cell, Design, finished, fold_folder, progress_path, trained
from shared.errors import FedBreastError, RunError
from shared.runtime.progress import read_progress, write_progress

log = logging.getLogger(__name__)

_POLL_S = 0.5

Submit = Callable[[Cell], "Future[str]"]
"""Starts a cell; its result is what went wrong, or nothing."""


@dataclass(frozen=True, slots=True)
class Moment:
    """How far a study is: cells done and in all, and of each running cell its share (0 to 1) and a word about it."""

    done: tuple[Cell, ...]
    total: int
    running: Mapping[Cell, tuple[float, str]]


def run_cells(
    design: Design, root: Path, *, jobs: int, ray_address: str = "", on_moment: Callable[[Moment], None]
) -> None:
    """Run every cell that is not finished, `jobs` at once on this machine or as many as a Ray cluster takes.

    `ray_address` is the cluster's (`auto` for one this machine belongs to); empty: processes of this machine.
    `on_moment` is told how far the study is, twice a second. `RunError` where cells failed; those that did not wait for
    them are finished and kept.
    """
    waits = design.cells()
    done = [cell for cell in waits if finished(root, cell)]
    pending = [cell for cell in waits if cell not in set(done)]
    failed: dict[Cell, str] = {}
    running: dict[Future[str], Cell] = {}
    with _on_ray(root, ray_address, design) if ray_address else _here(root, jobs) as submit:
        slots = len(pending) if ray_address else jobs
        while pending or running:
            for cell in [cell for cell in pending if set(waits[cell]) <= set(done)][: max(0, slots - len(running))]:
                pending.remove(cell)
                if cell.kind == "evaluate":
                    _open_fold(design, root, cell.centre)
                running[submit(cell)] = cell
            if not running:
                break
            ended, _ = wait(running, timeout=_POLL_S, return_when=FIRST_COMPLETED)
            for future in ended:
                cell = running.pop(future)
                error = _result(future)
                if error:
                    failed[cell] = error
                else:
                    done.append(cell)
            on_moment(Moment(tuple(done), len(waits), {cell: _share(root, cell) for cell in running.values()}))
    if failed:
        reasons = "; ".join(f"{cell.name}: {error}" for cell, error in sorted(failed.items()))
        raise RunError(
            f"{len(failed)} cells failed and {len(pending)} wait for them ({reasons}); what is finished is kept: mend "
            "and call the same again"
        )


def _result(future: Future[str]) -> str:
    try:
        return future.result()
    except BrokenProcessPool:
        raise RunError(
            "a process of the study was ended from outside, most likely for want of memory: call the same again with "
            "fewer --jobs; finished cells are kept"
        ) from None


def _open_fold(design: Design, root: Path, held_out: str) -> None:
    """Record that a fold's centre is opened, for which models."""
    models: dict[str, list[str]] = {}
    for cell in design.trainings(held_out):
        models.setdefault(cell.task, []).append(str(trained(root, cell)[0]["model_hash"]))
    open_once(RunFolder(fold_folder(root, held_out)), held_out, models)


def _share(root: Path, cell: Cell) -> tuple[float, str]:
    moment = read_progress(progress_path(root, cell))
    return (0.0, "") if moment is None else (moment.done / max(1, moment.total), moment.text)


def work(root: Path, cell: Cell) -> str:
    """Do a cell in this process; returns what went wrong, or nothing. Details go to the cell's own log."""
    from server.studies.cells import run_cell
    from shared.runtime.logs import log_to

    os.umask(0o077)  # images are this user's alone; a Ray cluster's workers have another umask
    progress = progress_path(root, cell)

    def report(done: int, total: int, text: str) -> None:
        write_progress(progress, cell.kind, done, total, text)

    (root / "logs").mkdir(exist_ok=True)
    with log_to(root / "logs" / f"{progress.stem}.jsonl"):
        try:
            report(0, 1, "")
            run_cell(root, cell, report)
        except FedBreastError as error:
            return str(error)
        except Exception as error:
            log.exception("the cell ended")
            # A library's text may quote what it read: the place tells enough.
            last = traceback.extract_tb(error.__traceback__)[-1]
            return f"{type(error).__name__} at {Path(last.filename).name}, line {last.lineno}"
        finally:
            progress.unlink(missing_ok=True)
    return ""


@contextmanager
def _here(root: Path, jobs: int) -> Iterator[Submit]:
    # Never a fork: this process may hold threads of torch.
    context = multiprocessing.get_context("spawn")
    devices = context.Queue()
    visible = _visible_gpus()
    for number in range(jobs):
        devices.put(visible[number % len(visible)] if visible else "")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=(os.getpid(), devices))
    try:
        yield lambda cell: pool.submit(work, root, cell)
    finally:
        # Ctrl-C must not wait for a round to end: what is half done is done again.
        for process in multiprocessing.active_children():
            process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)


def _visible_gpus() -> list[str]:
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return [str(number) for number in range(torch.cuda.device_count())] if named is None else named.split(",")


def jobs_here(threads: int) -> int:
    """Cells that this machine can run at once: one a GPU, or as many as its cores hold of `threads`."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return len(_visible_gpus()) or max(1, allowed // threads)


def _begin(parent: int, devices: Any) -> None:
    """Give a process its own GPU where there are several, and have it end with the process that began it."""
    device = devices.get()
    if device:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_S)
    os._exit(1)


@contextmanager
def _on_ray(root: Path, address: str, design: Design) -> Iterator[Submit]:
    # What Ray will do by itself in later versions, and warns of until then.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    ray.init(address=address, log_to_driver=False)
    try:
        gpus = 1 if ray.cluster_resources().get("GPU") else 0
        remote = ray.remote(num_cpus=design.config.compute.threads, num_gpus=gpus, max_retries=0)(work)
        yield lambda cell: remote.remote(root.resolve(), cell).future()
    finally:
        ray.shutdown()
