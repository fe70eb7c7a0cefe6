"""What server and sites must know of a strategy of federated learning: one class in one file, its fields its settings.

Every hook has a default, FedAvg's; a strategy overrides those in which it differs. What is the same under all of them
stands outside: the weighted mean of the updates, and that buffers take this mean and are never stepped.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from shared.config.sections import Section
from shared.types import FloatArray

if TYPE_CHECKING:
    from torch import Tensor, nn

ServerState = Mapping[str, FloatArray]
"""What a strategy keeps at the server from round to round, by name; the journal holds it with each round's model."""


class Strategy(Section):
    """A strategy with its settings, read from the table `[federation.NAME]` of a configuration.

    Attributes
    ----------
    title
        As a report names it.
    former_keys
        Settings that earlier versions had in `[federation]` itself: the former key to the field of today.

    """

    title: ClassVar[str]
    former_keys: ClassVar[Mapping[str, str]] = {}

    def server_step(
        self, current: FloatArray, mean: FloatArray, round_number: int, state: ServerState
    ) -> tuple[FloatArray, ServerState]:
        """From the mean of a round's updates to the new global parameters.

        Parameters
        ----------
        current, mean
            Parameters (no buffers) of the global model before the round and of the updates' weighted mean, float32
            `(n,)`, in the order of `payload.flatten`.
        round_number
            1 for the first round.
        state
            What the last round's step returned; empty before the first.

        Returns
        -------
        The new parameters, float32 `(n,)`, and the state of the next round's step, in arrays of float32.

        """
        del current, round_number, state
        return mean, {}

    def loss_term(
        self, model: nn.Module, anchor: Mapping[str, Tensor], site_state: Mapping[str, Tensor]
    ) -> Tensor | float:
        """What a site adds to the task's loss in every step of its training.

        Parameters
        ----------
        model
            The network in training.
        anchor
            The round's start by name, on the CPU: the global model, with the site's own values where they stay there.
        site_state
            What `keep_at_site` returned after this site's last round of the run; empty before its first.

        """
        del model, anchor, site_state
        return 0.0

    def stays_at_site(self, name: str) -> bool:
        """Whether a parameter or buffer, by its name in the network, stays at each site: it is never sent."""
        del name
        return False

    def keep_at_site(
        self, model: nn.Module, anchor: Mapping[str, Tensor], site_state: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """What a site keeps on its own disk after a round; arguments as `loss_term`, with the network trained.

        Entries of the network that stay at the site stand under their own names; a strategy may add others. Empty, as
        where nothing stays: nothing is written.
        """
        del anchor, site_state
        return {name: value for name, value in model.state_dict().items() if self.stays_at_site(name)}
