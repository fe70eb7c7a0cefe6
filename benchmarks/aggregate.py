"""The server's streaming average against Flower's `aggregate_arrayrecords`, two updates of 100 MB."""

from __future__ import annotations

import numpy as np
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords
from timing import ratio

from server.federation.averaging import RunningAverage

VALUES = 25_000_000


def main() -> None:
    """Check that both give the same mean, then print the ratio."""
    draws = np.random.default_rng(0)
    updates = [(draws.normal(size=VALUES).astype(np.float32), cases) for cases in (24, 30)]
    records = [
        RecordDict({"arrays": ArrayRecord({"flat": Array(w)}), "metrics": MetricRecord({"num-examples": n})})
        for w, n in updates
    ]

    def ours() -> np.ndarray:
        running = RunningAverage(VALUES)
        for weights, cases in updates:
            running.add(weights, cases)
        return running.mean()

    def peer() -> np.ndarray:
        return aggregate_arrayrecords(records, "num-examples")["flat"].numpy()

    assert np.allclose(ours(), peer(), atol=1e-6)
    ratio("aggregate (ours, any order the same bits / Flower)", ours, peer, repeats=5)


if __name__ == "__main__":
    main()
