"""FedProx (Li 2020, equation 2): a site's loss holds its parameters near the round's global model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from shared.strategies.strategy import Strategy

if TYPE_CHECKING:
    from torch import Tensor, nn


class FedProx(Strategy):
    """FedAvg with a proximal term, `mu / 2 x |w - w_t|^2`, in the sites' loss."""

    title: ClassVar[str] = "FedProx"
    former_keys: ClassVar[Mapping[str, str]] = {"proximal_mu": "mu"}

    mu: float = Field(default=0.01, ge=0.0, le=1e4, description="Strength of the proximal term; 0: FedAvg.")

    def loss_term(
        self, model: nn.Module, anchor: Mapping[str, Tensor], site_state: Mapping[str, Tensor]
    ) -> Tensor | float:
        """The proximal term."""
        del site_state
        return (
            0.5
            * self.mu
            * sum((value - anchor[name].to(value.device)).square().sum() for name, value in model.named_parameters())
        )


STRATEGY = FedProx
