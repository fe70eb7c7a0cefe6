"""FedBN (Li et al., ICLR 2021): batch norms, learnt values and running statistics, stay at each site.

A scanner's levels and contrasts are then answered for by the site's own norms, and the other weights are averaged. What
the server keeps, and an external centre evaluates with, are the start's norms: those of the pretrained weights, or
mean 0, variance 1, gain 1 and shift 0. Such a model is no one's: under FedBN read the sites' own figures, which are
taken with the sites' own norms.
"""

from __future__ import annotations

import re
from typing import ClassVar

from shared.strategies.strategy import Strategy

_NORM = re.compile(r"(^|\.)(norm\d*|bn\d*|adn\.N|downsample\.1)\.")
"""As the networks here name batch norms: our own and MONAI's DenseNet; its ResNet; its convolutions; its shortcuts."""


class FedBN(Strategy):
    """FedAvg of all but the norms; it has no settings.

    Norms of other kinds stay as well where they carry such a name: a U-Net's group norms, a transformer's layer norms.
    """

    title: ClassVar[str] = "FedBN"

    def stays_at_site(self, name: str) -> bool:
        """Whether the name is that of a norm's gain, shift, running mean or variance, or of its counter of batches."""
        return _NORM.search(name) is not None


STRATEGY = FedBN
