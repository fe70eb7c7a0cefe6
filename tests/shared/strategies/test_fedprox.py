"""FedProx's term against its formula, and in the loop."""

from functools import partial

import pytest
import torch

from shared.strategies.fedprox import FedProx


def test_the_term_is_half_mu_times_the_squared_distance_of_parameters_alone():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    anchor = {name: value - 2 for name, value in model.state_dict().items()}
    parameters = sum(value.numel() for value in model.parameters())
    term = FedProx(mu=3.0).loss_term(model, anchor, {})
    assert term.item() == pytest.approx(0.5 * 3.0 * 4 * parameters, rel=1e-6)


def test_its_gradient_is_mu_times_the_distance():
    model = torch.nn.Linear(2, 1)
    anchor = {name: torch.ones_like(value) for name, value in model.named_parameters()}
    FedProx(mu=3.0).loss_term(model, anchor, {}).backward()
    assert torch.allclose(model.weight.grad, 3.0 * (model.weight - 1))


def test_it_pulls_towards_the_anchor():
    def distance(mu):
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 1)
        anchor = {name: value.detach().clone() for name, value in model.named_parameters()}
        term = partial(FedProx(mu=mu).loss_term, anchor=anchor, site_state={})
        optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
        for _ in range(50):
            optimiser.zero_grad()
            ((model(torch.ones(1, 4)) - 5).square().sum() + term(model)).backward()
            optimiser.step()
        return sum(float((value - anchor[name]).square().sum().detach()) for name, value in model.named_parameters())

    assert distance(20.0) < 0.5 * distance(0.0)
