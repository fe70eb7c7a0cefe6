"""Process the cases of a site one by one: a study that cannot be used becomes an exclusion, the others continue."""

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
"""Called with (cases done, all cases) after each case."""


def each_case(
    cases: Sequence[Case],
    work: Callable[[Case], Result],
    workers: int,
    on_progress: Progress | None,
    module: str = __name__,
) -> tuple[list[Result], list[Exclusion]]:
    """Apply `work` to each case; return the results in the order of the cases, and an exclusion for each failure.

    `workers` are processes: with more than one, cases and `work` are pickled, the calling script needs a `__main__`
    guard, and `module`, which `work` needs, is imported once for all. Raises `RunError` if the cache has no space left,
    which is no fault of a study.
    """
    good: list[Result] = []
    excluded: list[Exclusion] = []
    for done, item in enumerate(_results(cases, partial(_try_case, work=work), workers, module), start=1):
        if isinstance(item, Exclusion):
            excluded.append(item)
        else:
            good.append(item)
        if on_progress:
            on_progress(done, len(cases))
    return good, excluded


def _try_case(case: Case, work: Callable[[Case], Result]) -> Result | Exclusion:
    try:
        return work(case)
    except RunError:
        raise  # the cache has no space left, which is no fault of the study
    except Exception as error:  # noqa: BLE001 - one unusual study must not end a site's round
        fault = as_study_error(error)
        log.warning("case %s is left out: %s", case.key, fault)
        return Exclusion(case.row.row, fault.reason)


def as_study_error(error: Exception) -> StudyError:
    """A `StudyError` as it is; of any other error class and place alone: its message may contain data of the file."""
    if isinstance(error, StudyError):
        return error
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{trace.tb_frame.f_globals.get('__name__')}:{trace.tb_lineno}" if trace is not None else "unknown"
    return StudyError("preprocessing_failed", f"{type(error).__name__} at {place}")


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
    """Pass a log record of a worker to the logger of the same name in this process."""

    def emit(self, record: logging.LogRecord) -> None:
        logging.getLogger(record.name).handle(record)


def _log_to(lines: multiprocessing.Queue[logging.LogRecord], level: int) -> None:
    """Send the log of a worker to the main process."""
    root = logging.getLogger()
    root.handlers = [QueueHandler(lines)]
    root.setLevel(level)
