"""A site's cases one by one: an unsound study becomes an exclusion, and the rest goes on."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from logging.handlers import QueueHandler, QueueListener
from typing import TypeVar

from shared.cohort.preflight import Case, Exclusion
from shared.errors import RunError, StudyError

log = logging.getLogger(__name__)

Result = TypeVar("Result")
Progress = Callable[[int, int], None]
"""Called with (cases done, cases in all) after each case."""


def each_case(
    cases: Sequence[Case],
    work: Callable[[Case], Result],
    workers: int,
    on_progress: Progress | None,
    module: str = __name__,
) -> tuple[list[Result], list[Exclusion]]:
    """What `work` makes of each case, in the cases' order, and an exclusion for each where it fails.

    Parameters
    ----------
    cases, work
        With several workers both are pickled.
    workers
        Processes; with more than one the calling script needs a `__main__` guard.
    on_progress
        Told after each case.
    module
        What `work` needs, imported once for all workers.

    Raises
    ------
    RunError
        The cache has no space left: no fault of a study.

    """
    good: list[Result] = []
    excluded: list[Exclusion] = []
    for done, item in enumerate(_results(cases, partial(_guarded, work=work), workers, module), start=1):
        if isinstance(item, Exclusion):
            excluded.append(item)
        else:
            good.append(item)
        if on_progress:
            on_progress(done, len(cases))
    return good, excluded


def _guarded(case: Case, work: Callable[[Case], Result]) -> Result | Exclusion:
    try:
        return work(case)
    except StudyError as error:
        log.warning("case %s is left out: %s", case.key, error)
        return Exclusion(case.row.row, error.reason)
    except RunError:
        raise  # the cache has no space left: no fault of the study
    except Exception as error:  # noqa: BLE001 - one odd study must not end a site's round
        # Class and place alone: a library's message may quote the file's content.
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        place = f"{trace.tb_frame.f_globals.get('__name__')}:{trace.tb_lineno}" if trace is not None else "unknown"
        log.warning("case %s is left out: preprocessing_failed: %s at %s", case.key, type(error).__name__, place)
        return Exclusion(case.row.row, "preprocessing_failed")


def _results(
    cases: Sequence[Case], work: Callable[[Case], Result | Exclusion], workers: int, module: str
) -> Iterator[Result | Exclusion]:
    if workers == 1 or len(cases) <= 1:
        yield from map(work, cases)
        return
    # Never a plain fork: the caller may hold threads of torch or of gRPC.
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if "forkserver" in methods:
        context.set_forkserver_preload([module])
    lines: multiprocessing.Queue[logging.LogRecord] = context.Queue()
    listener = QueueListener(lines, _Relay())
    listener.start()
    try:
        with ProcessPoolExecutor(
            min(workers, len(cases)), mp_context=context, initializer=_log_to, initargs=(lines, log.getEffectiveLevel())
        ) as pool:
            yield from pool.map(work, cases)
    finally:
        listener.stop()
        lines.close()


class _Relay(logging.Handler):
    """Hands a worker's log record to this process's logger of the same name."""

    def emit(self, record: logging.LogRecord) -> None:
        logging.getLogger(record.name).handle(record)


def _log_to(lines: multiprocessing.Queue[logging.LogRecord], level: int) -> None:
    """In a worker: send the log to the process that keeps it."""
    root = logging.getLogger()
    root.handlers = [QueueHandler(lines)]
    root.setLevel(level)
