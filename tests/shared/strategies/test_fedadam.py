"""FedAdam by hand (Reddi 2021, algorithm 2; bias as in Kingma 2015), and against Flower's own class."""

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAdam as FlowersFedAdam

from shared.strategies.fedadam import FedAdam


def test_two_rounds_by_hand():
    strategy = FedAdam(learning_rate=0.1, beta_1=0.9, beta_2=0.99, tau=1e-3)
    x, m, v, state = 1.0, 0.0, 0.0, {}
    for number, mean in ((1, 1.2), (2, 1.1)):
        delta = mean - x
        m, v = 0.9 * m + 0.1 * delta, 0.99 * v + 0.01 * delta**2
        rate = 0.1 * np.sqrt(1 - 0.99**number) / (1 - 0.9**number)
        expected = x + rate * m / (np.sqrt(v) + 1e-3)
        weights, state = strategy.server_step(np.array([x], np.float32), np.array([mean], np.float32), number, state)
        assert weights.dtype == np.float32
        assert weights[0] == pytest.approx(expected, rel=1e-5)
        assert state["m"][0] == pytest.approx(m, rel=1e-4)
        assert state["v"][0] == pytest.approx(v, rel=1e-4)
        x = float(weights[0])


@pytest.mark.usefixtures("flower_task")
def test_five_rounds_as_flowers_class_makes_them():
    draws = np.random.default_rng(0)
    settings = {"beta_1": 0.8, "beta_2": 0.95, "tau": 1e-2}
    ours, flowers = FedAdam(learning_rate=0.05, **settings), FlowersFedAdam(eta=0.05, **settings)
    model = draws.normal(size=1000).astype(np.float32)
    theirs, state = model.astype(np.float64), {}
    for number in range(1, 6):
        mean = model + draws.normal(0, 0.1, 1000).astype(np.float32)
        flowers.current_arrays = {"flat": theirs}
        content = RecordDict(
            {"arrays": ArrayRecord({"flat": Array(mean)}), "metrics": MetricRecord({"num-examples": 1})}
        )
        # Flower corrects the bias by round + 1.
        arrays, _ = flowers.aggregate_train(number - 1, [Message(content, dst_node_id=0, message_type="train")])
        theirs = arrays["flat"].numpy()
        model, state = ours.server_step(model, mean, number, state)
        assert np.allclose(model, theirs, rtol=0, atol=1e-6)
        assert np.allclose(state["m"], flowers.m_t["flat"], rtol=0, atol=1e-6)
        assert np.allclose(state["v"], flowers.v_t["flat"], rtol=0, atol=1e-6)
