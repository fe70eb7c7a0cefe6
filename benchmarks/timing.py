"""Interleaved CPU-time ratios: machines drift, so two candidates are timed in turn and compared pair by pair."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np


def ratio(name: str, ours: Callable[[], object], peer: Callable[[], object], repeats: int = 7) -> float:
    """Print and return the median ratio ours / peer of CPU time over `repeats` pairs, after one uncounted pair."""
    pairs = np.array([(_cpu(ours), _cpu(peer)) for _ in range(repeats + 1)])[1:]
    ratios = pairs[:, 0] / np.maximum(pairs[:, 1], 1e-9)
    low, middle, high = np.quantile(ratios, [0, 0.5, 1])
    print(
        f"{name}: {middle:.3f} (range {low:.3f} to {high:.3f}, {repeats} pairs); "
        f"ours {np.median(pairs[:, 0]):.4f} s, peer {np.median(pairs[:, 1]):.4f} s CPU"
    )
    return float(middle)


def _cpu(function: Callable[[], object]) -> float:
    started = time.process_time()
    function()
    return time.process_time() - started
