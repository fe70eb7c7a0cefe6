"""Batches of a round of training: made in the training process, or ahead of it by processes of their own."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
from collections.abc import Generator as Stream
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, is_dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor
from torch.utils.data import DataLoader, Dataset

from shared.config.run_config import RunConfig
from shared.errors import RunError
from shared.reproducibility import derive_seed
from shared.tasks import TASKS, task_named

log = logging.getLogger(__name__)

Batch = tuple[Tensor, Tensor]
"""Image `(n, channel, z, y, x)` and target `(n, ...)`."""


def batches(cases: Sequence[Any], config: RunConfig, seed: int, *, pinned: bool = False) -> Stream[Batch, None, None]:
    """The augmented batches of a round, `steps_per_round` of them; each case once an epoch.

    With `compute.loader_workers` of 0 all draws come from one stream. Otherwise each batch has its own, seeded by
    `seed` and its number, so that it does not matter how many processes prepare them; these end with the iterator, and
    with this process whatever ends it. `pinned`: in page-locked memory, from which a GPU copies while it computes.

    `RunError` where such a process was ended from outside.
    """
    draws, workers = np.random.default_rng(seed), _workers(config)
    chosen = _chosen(len(cases), config.training.batch_size, draws)
    rounds = islice(chosen, config.training.steps_per_round)
    if not workers:
        generator = Generator().manual_seed(seed)
        yield from (_make([cases[index] for index in batch], config, draws, generator) for batch in rounds)
        return
    # Bare cases: what they have read would be copied to every process.
    bare = [replace(case) if is_dataclass(case) and not isinstance(case, type) else case for case in cases]
    loader: DataLoader[Any] = DataLoader(
        _Batches(bare, config, seed, list(rounds)),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=config.compute.prefetch,
        pin_memory=pinned,
        multiprocessing_context=_context(TASKS[config.task]),
        worker_init_fn=_begin,
        generator=Generator().manual_seed(seed),  # so that it draws nothing from the one that networks draw from
    )
    try:
        yield from loader
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise RunError(
            "a process that prepared batches was ended from outside, most likely for want of memory: give the machine "
            "or its container more memory and more shared memory (/dev/shm, in Docker shm_size), or set "
            "compute.loader_workers = 0"
        ) from None


@dataclass(frozen=True)
class _Batches(Dataset[Batch]):
    """A round's batches by number, as a process of the loader makes them; `chosen` are the cases of each."""

    cases: Sequence[Any]
    config: RunConfig
    seed: int
    chosen: Sequence[Sequence[int]]

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, number: int) -> Batch:
        own = derive_seed(self.seed, number)
        cases = [self.cases[index] for index in self.chosen[number]]
        return _make(cases, self.config, np.random.default_rng(own), Generator().manual_seed(own))


def _make(cases: Sequence[Any], config: RunConfig, draws: np.random.Generator, generator: Generator) -> Batch:
    learner = task_named(config.task).learner
    samples = [learner.sample(case, config, draws) for case in cases]
    image = torch.from_numpy(np.stack([item[0] for item in samples]))
    target = torch.from_numpy(np.stack([item[1] for item in samples]))
    return learner.augment(image, target, config.training.augmentation, generator)


def _chosen(count: int, size: int, draws: np.random.Generator) -> Iterator[list[int]]:
    """Endless batches of the numbers of cases; what is left of an epoch comes first in the next."""
    queue: list[int] = []
    while True:
        while len(queue) < size:
            queue.extend(int(index) for index in draws.permutation(count))
        yield queue[:size]
        queue = queue[size:]


def _workers(config: RunConfig) -> int:
    """Processes that prepare batches: as configured, no more than this process has cores or the round has batches."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(config.compute.loader_workers, cores, config.training.steps_per_round)


def _context(task: str) -> Any:
    # Never a plain fork: this process may hold threads of torch, of CUDA or of gRPC.
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if "forkserver" in methods:
        context.set_forkserver_preload([__name__, task])  # imported once for all processes
    return context


def _begin(number: int) -> None:
    """Have a process of the loader end with the one that trains, also where that is killed."""
    del number
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)
