"""A site's cases through fingerprint and cache: an unsound study becomes an exclusion, and the rest goes on."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from logging.handlers import QueueHandler, QueueListener
from typing import TypeVar

from shared.cohort.preflight import Case, Exclusion
from shared.config.run_config import RunConfig
from shared.errors import RunError, StudyError
from shared.modalities.mri.cache import CachedCase, CaseCache
from shared.modalities.mri.fingerprint import SiteFingerprint, fingerprint_region
from shared.modalities.mri.plan import Extraction, Plan
from shared.modalities.mri.tissues import with_tissues

log = logging.getLogger(__name__)

Result = TypeVar("Result")
Progress = Callable[[int, int], None]
"""Called with (cases done, cases in all) after each case."""


def prepare_cases(
    cases: Sequence[Case],
    plan: Plan,
    cache: CaseCache,
    *,
    workers: int = 1,
    on_progress: Progress | None = None,
    tissues: bool = False,
) -> tuple[list[CachedCase], list[Exclusion]]:
    """Prepare cases, in their order.

    Parameters
    ----------
    cases
        The site's cases.
    plan
        The federation's plan.
    cache
        Where prepared cases are kept.
    workers
        Processes; with more than one the calling script needs a `__main__` guard.
    on_progress
        Told after each case.
    tissues
        Also prepare the cases' masks of breast and fibroglandular tissue; those without any are prepared all the same.

    Returns
    -------
    The prepared cases, and an exclusion for each that could not be prepared.

    """
    return _part(_each(cases, partial(_prepare, cache=cache, plan=plan, tissues=tissues), workers, on_progress))


def fingerprint_cases(
    cases: Sequence[Case],
    config: RunConfig,
    cache: CaseCache,
    *,
    workers: int = 1,
    on_progress: Progress | None = None,
) -> tuple[SiteFingerprint, list[Exclusion]]:
    """Add up the fingerprints of cases; arguments as `prepare_cases`, which then need not read the studies again."""
    extraction = Extraction.of(config.preprocessing)
    found, excluded = _part(
        _each(cases, partial(_fingerprint, cache=cache, extraction=extraction), workers, on_progress)
    )
    return sum(found, start=SiteFingerprint.empty(extraction.post_phases)), excluded


def _prepare(case: Case, cache: CaseCache, plan: Plan, *, tissues: bool) -> CachedCase:
    prepared = cache.get_or_make(case, plan)
    return with_tissues(cache.root, case, prepared) if tissues else prepared


def _fingerprint(case: Case, cache: CaseCache, extraction: Extraction) -> SiteFingerprint:
    return fingerprint_region(cache.region(case, extraction))


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


def _each(
    cases: Sequence[Case], work: Callable[[Case], Result], workers: int, on_progress: Progress | None
) -> Iterator[Result | Exclusion]:
    guarded = partial(_guarded, work=work)
    if workers == 1 or len(cases) <= 1:
        yield from _counted(map(guarded, cases), len(cases), on_progress)
        return
    # Never a plain fork: the caller may hold threads of torch or of gRPC.
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if "forkserver" in methods:
        context.set_forkserver_preload([__name__])
    lines: multiprocessing.Queue[logging.LogRecord] = context.Queue()
    listener = QueueListener(lines, _Relay())
    listener.start()
    try:
        with ProcessPoolExecutor(
            min(workers, len(cases)), mp_context=context, initializer=_log_to, initargs=(lines, log.getEffectiveLevel())
        ) as pool:
            yield from _counted(pool.map(guarded, cases), len(cases), on_progress)
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


def _counted(
    results: Iterator[Result | Exclusion], total: int, on_progress: Progress | None
) -> Iterator[Result | Exclusion]:
    for done, result in enumerate(results, start=1):
        if on_progress:
            on_progress(done, total)
        yield result


def _part(results: Iterator[Result | Exclusion]) -> tuple[list[Result], list[Exclusion]]:
    good: list[Result] = []
    excluded: list[Exclusion] = []
    for item in results:
        if isinstance(item, Exclusion):
            excluded.append(item)
        else:
            good.append(item)
    return good, excluded
