"""The step at the server: parameters by the strategy, buffers by the mean, whatever the strategy."""

import numpy as np
import pytest
import torch

from server.federation.server_step import parameter_places, server_step
from shared.messages.payload import flatten, unflatten
from shared.strategies import STRATEGIES, strategy_named


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv3d(1, 2, 3), torch.nn.BatchNorm3d(2))


def test_places_are_those_of_parameters_in_the_flat_array():
    model = network()
    zeroed = {name: torch.zeros_like(value) for name, value in model.named_parameters()}
    for name, value in model.named_buffers():
        zeroed[name] = torch.ones_like(value)
    places = parameter_places(model)
    assert np.array_equal(places, flatten(zeroed) == 0)
    assert places.sum() == sum(value.numel() for value in model.parameters())


@pytest.mark.parametrize("name", STRATEGIES)
def test_after_six_rounds_a_running_mean_is_that_of_the_sites(name):
    model = network()
    like, places, strategy = model.state_dict(), parameter_places(model), strategy_named(name)()
    current, state = flatten(like), {}
    for number in range(1, 7):
        # Sites have seen images of mean 29.5 and variance 4, and moved each parameter by 0.1.
        mean = {key: value + 0.1 for key, value in unflatten(current, like).items()}
        mean |= {"1.running_mean": torch.full((2,), 29.5), "1.running_var": torch.full((2,), 4.0)}
        mean["1.num_batches_tracked"] = torch.tensor(20 * number)
        current, state = server_step(strategy, places, current, flatten(mean), number, state)
    new = unflatten(current, like)
    assert new["1.running_mean"].tolist() == [29.5, 29.5]
    assert new["1.running_var"].tolist() == [4.0, 4.0]
    assert int(new["1.num_batches_tracked"]) == 120
    assert not torch.equal(new["0.weight"], like["0.weight"])


def test_a_strategy_sees_parameters_alone():
    seen = []

    class Watching(strategy_named("fedavg")):
        title = "Watching"

        def server_step(self, current, mean, round_number, state):
            seen.append((len(current), len(mean), round_number, state))
            return mean + 1, {"own": mean}

    model = network()
    current, places = flatten(model.state_dict()), parameter_places(model)
    new, state = server_step(Watching(), places, current, current, 3, {"own": current})
    assert [item[:3] for item in seen] == [(places.sum(), places.sum(), 3)]
    assert np.allclose(new - current, places, atol=1e-6)
    assert state["own"].shape == (places.sum(),)
