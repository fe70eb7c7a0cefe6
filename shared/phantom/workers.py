"""Worker processes that generate patients in parallel."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager


@contextmanager
def open_pool(workers: int) -> Iterator[ProcessPoolExecutor | None]:
    """Open a pool of processes, or none for a single worker; calls that have not begun are dropped after a failure."""
    if workers == 1:
        yield None
        return
    # Never a plain fork: the caller may hold threads of torch. A fork server imports once for all workers.
    servable = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if servable else "spawn")
    if servable:
        context.set_forkserver_preload(["shared.phantom.masks", "shared.phantom.montage"])
    pool = ProcessPoolExecutor(workers, mp_context=context)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def run_all(
    pool: ProcessPoolExecutor | None, function: Callable[..., None], calls: Sequence[tuple[object, ...]]
) -> Iterator[None]:
    """Run all calls and yield after each one that is done."""
    if pool is None:
        for call in calls:
            function(*call)
            yield
        return
    for future in as_completed([pool.submit(function, *call) for call in calls]):
        future.result()
        yield
