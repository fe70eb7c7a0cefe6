"""FedAvg: the mean is the model; and the hooks' defaults do nothing."""

import numpy as np
import torch

from shared.strategies.fedavg import FedAvg


def test_the_mean_is_the_new_model():
    mean = np.array([1.5, 2.5], np.float32)
    weights, state = FedAvg().server_step(np.zeros(2, np.float32), mean, 1, {})
    assert weights is mean
    assert state == {}


def test_nothing_is_added_to_the_loss_and_nothing_stays_at_the_site():
    model = torch.nn.Linear(2, 1)
    assert FedAvg().loss_term(model, model.state_dict(), {}) == 0.0
    assert not FedAvg().stays_at_site("weight")
    assert FedAvg().keep_at_site(model, model.state_dict(), {}) == {}
