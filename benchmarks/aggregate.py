"""The server's streaming average against Flower's `aggregate_arrayrecords`: 2, 8 and 32 updates of 100 MB.

Both have the updates in memory; Flower's are in its records, as it takes them. A second ratio counts in what our server
does before: reading the record and checking its values, and how far each lies from the model that was sent.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import numpy as np
from flwr.app import MetricRecord, RecordDict
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords
from timing import ratio

from server.federation.averaging import WAITING, RunningAverage
from server.federation.update_reach import PARAMETER, Reach
from shared.messages.payload import pack_weights, unpack_weights

VALUES = 25_000_000
UPDATES = (2, 8, 32)


def main() -> None:
    """Check that both give the same mean, then print the ratios of CPU time and the peaks of memory."""
    draws = np.random.default_rng(0)
    different = [draws.normal(size=VALUES).astype(np.float32) for _ in range(4)]
    start = np.zeros(VALUES, np.float32)
    reach = Reach(start, [(range(VALUES), PARAMETER)], bounded=True, step=10.0, share=0.01, steps=20)
    for number in UPDATES:
        updates = [(different[index % 4], 24 + index) for index in range(number)]
        records = [
            RecordDict({"arrays": pack_weights(weights), "metrics": MetricRecord({"num-examples": cases})})
            for weights, cases in updates
        ]

        def ours() -> np.ndarray:
            running = RunningAverage(start)
            for weights, cases in updates:  # noqa: B023 - called in this turn
                running.add(weights, {"": cases})
            return running.mean()

        def as_received() -> np.ndarray:
            running = RunningAverage(start)
            for record, (_, cases) in zip(records, updates, strict=True):  # noqa: B023
                weights = unpack_weights(record["arrays"])
                reach.check(weights)
                running.add(weights, {"": cases})
                del weights
            return running.mean()

        def peer() -> np.ndarray:
            return aggregate_arrayrecords(records, "num-examples")["flat"].numpy()  # noqa: B023

        exact = sum(weights.astype(np.float64) * cases for weights, cases in updates) / sum(n for _, n in updates)
        off = [float(np.abs(function() - exact).max()) for function in (ours, peer)]
        assert max(off) < 1e-6
        del exact
        print(f"{number} updates of 100 MB: off the exact mean by {off[0]:.1e}, Flower's by {off[1]:.1e}")
        ratio("  averaged (any order the same bits / Flower)", ours, peer, repeats=5)
        ratio("  unpacked, checked and averaged / Flower", as_received, peer, repeats=5)
        size = VALUES * 4 / 1e6
        # Ours keeps the records that wait and the one that comes, Flower's takes them together.
        kept = min(number, WAITING + 1) * size
        print(f"  peak memory: ours {kept + peak(as_received):.0f} MB, Flower's {number * size + peak(peer):.0f} MB")


def peak(function: Callable[[], object]) -> float:
    """MB by which the peak of this process's memory exceeds what it held before the call."""
    gc.collect()
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    function()
    return _status("VmHWM") - before


def _status(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1000


if __name__ == "__main__":
    main()
