"""CC and MLO of one breast through one network of one plane, each on its own and both together."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from shared.models.plane_network import PlaneNetwork

Fusion = Literal["scores", "features"]
"""Both views' answer: the mean of their probabilities, or a layer of its own over both views' features."""
VIEWS = 2


class BreastViews(nn.Module):
    """A network of one plane that reads both views of a breast.

    With fusion of `"features"` a linear layer over both views' features answers for the breast; the views go on
    answering alone, so that the network learns from each.
    """

    def __init__(self, network: PlaneNetwork, classes: int, fusion: Fusion) -> None:
        super().__init__()
        self.network = network
        self.both = nn.Linear(VIEWS * network.maps, classes) if fusion == "features" else None

    def forward(self, x: Tensor) -> list[Tensor]:
        """Views `(n, 2, channel, y, x)`, CC and MLO, to logits `(n, classes)`: of CC, of MLO, by features of both."""
        features = self.network.dropout(self.network.embed(x.flatten(0, 1)))
        single = self.network.head(features).unflatten(0, (-1, VIEWS))
        logits = [single[:, 0], single[:, 1]]
        if self.both is not None:
            logits.append(self.both(features.unflatten(0, (-1, VIEWS)).flatten(1)))
        return logits


def both_views(logits: list[Tensor]) -> Tensor:
    """Probabilities `(n, classes)` of a breast from what `BreastViews` answers."""
    if len(logits) > VIEWS:
        return logits[VIEWS].float().softmax(dim=1)
    return torch.stack([item.float().softmax(dim=1) for item in logits]).mean(dim=0)
