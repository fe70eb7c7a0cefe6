"""A classifier of one plane `(n, channel, y, x)`: features, their mean over the plane, dropout, a linear layer."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

Size = Literal["published", "small"]
"""As its paper has a network, or narrow and shallow, for a few CPU cores."""


class PlaneNetwork(nn.Module):
    """What every network of `plane_networks` is, so that heat maps and the fusion of views treat them alike.

    Parameters
    ----------
    features
        From `(n, channel, y, x)` to feature maps `(n, maps, ...)`; of the vision transformer the class token, as maps
        of one place.
    maps
        How many.
    classes
        Logits.
    dropout
        Probability of dropping a feature before the last layer.

    """

    def __init__(self, features: nn.Module, maps: int, classes: int, *, dropout: float) -> None:
        super().__init__()
        self.features = features
        self.maps = maps
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(maps, classes)

    def embed(self, x: Tensor) -> Tensor:
        """Planes `(n, channel, y, x)` to features `(n, maps)`, before dropout."""
        maps: Tensor = self.features(x)
        return maps.flatten(2).mean(dim=2)

    def forward(self, x: Tensor) -> Tensor:
        """Planes `(n, channel, y, x)` to logits `(n, classes)`."""
        logits: Tensor = self.head(self.dropout(self.embed(x)))
        return logits
