"""What a strategy has without overriding a hook, and what of a network stays at a site that says so."""

import torch

from shared.strategies.strategy import Strategy
from tests.shared.strategies.toy import Toy


def network():
    return torch.nn.ModuleDict({"conv": torch.nn.Linear(2, 2), "norm": torch.nn.LayerNorm(2)})


def test_without_an_override_nothing_stays_at_the_site():
    model = network()
    assert not any(Strategy().stays_at_site(name) for name in model.state_dict())
    assert Strategy().keep_at_site(model, model.state_dict(), {}) == {}


def test_what_stays_is_kept_as_it_was_trained():
    class NormsStay(Toy):
        def stays_at_site(self, name):
            return name.startswith("norm.")

    model = network()
    anchor = {name: torch.zeros_like(value) for name, value in model.state_dict().items()}
    kept = Strategy.keep_at_site(NormsStay(), model, anchor, {})
    assert set(kept) == {"norm.weight", "norm.bias"}
    assert torch.equal(kept["norm.weight"], torch.ones(2))
