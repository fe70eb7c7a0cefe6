"""The server's step: FedAvg's identity and FedAdam by hand (Reddi 2021, algorithm 2; bias as in Kingma 2015)."""

import numpy as np
import pytest

from server.federation.strategies import Adam, Average, strategy_for
from shared.config.execution import FederationConfig


def config(**changed):
    return FederationConfig(**{"strategy": "fedadam", "server_learning_rate": 0.1, **changed})


@pytest.mark.parametrize("name", ["fedavg", "fedprox"])
def test_fedavg_and_fedprox_take_the_average_as_it_is(name):
    strategy = strategy_for(FederationConfig(strategy=name))
    assert isinstance(strategy, Average)
    average = np.array([1.5, 2.5], np.float32)
    weights, moments = strategy.step(np.zeros(2, np.float32), average, 1, {})
    assert weights is average
    assert moments == {}


@pytest.mark.usefixtures("flower_task")
def test_fedadam_two_rounds_by_hand():
    strategy = Adam(config(server_beta_1=0.9, server_beta_2=0.99, server_tau=1e-3))
    x, m, v, moments = 1.0, 0.0, 0.0, {}
    for number, average in ((1, 1.2), (2, 1.1)):
        delta = average - x
        m, v = 0.9 * m + 0.1 * delta, 0.99 * v + 0.01 * delta**2
        rate = 0.1 * np.sqrt(1 - 0.99**number) / (1 - 0.9**number)
        expected = x + rate * m / (np.sqrt(v) + 1e-3)
        weights, moments = strategy.step(np.array([x], np.float32), np.array([average], np.float32), number, moments)
        assert weights.dtype == np.float32
        assert weights[0] == pytest.approx(expected, rel=1e-5)
        assert moments["m"][0] == pytest.approx(m, rel=1e-4)
        assert moments["v"][0] == pytest.approx(v, rel=1e-4)
        x = float(weights[0])
