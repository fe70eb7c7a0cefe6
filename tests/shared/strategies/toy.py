"""A strategy that uses every hook, FedDyn (Acar 2021, algorithm 1), whose norms stay at the sites as FedBN's (Li 2021).

It needs this file and one line in `STRATEGIES`.
"""

from typing import ClassVar

import numpy as np

from shared.strategies.strategy import Strategy


class Toy(Strategy):
    """A site's loss is corrected by what it drifted before; the server takes away the mean of all drift."""

    title: ClassVar[str] = "Toy"

    alpha: float = 0.1

    def server_step(self, current, mean, round_number, state):
        del round_number
        drift = state.get("drift", np.zeros_like(mean)) - self.alpha * (mean - current)
        return mean - drift / np.float32(self.alpha), {"drift": drift.astype(np.float32)}

    def loss_term(self, model, anchor, site_state):
        total = 0.0
        for name, value in model.named_parameters():
            start = anchor[name].to(value.device)
            total = total + 0.5 * self.alpha * (value - start).square().sum()
            if f"gradient.{name}" in site_state:
                total = total - (site_state[f"gradient.{name}"].to(value.device) * value).sum()
        return total

    def stays_at_site(self, name):
        return ".norm" in name

    def keep_at_site(self, model, anchor, site_state):
        own = super().keep_at_site(model, anchor, site_state)
        return own | {
            f"gradient.{name}": site_state.get(f"gradient.{name}", 0.0)
            - self.alpha * (value.detach().cpu() - anchor[name])
            for name, value in model.named_parameters()
        }


STRATEGY = Toy
