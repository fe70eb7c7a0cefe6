"""Which site still holds the model it judged last: it is not sent again to be trained."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from shared.messages import TRAIN, Instruction


class HeldModels:
    """What sites said they keep, by site and node: a node that came back under another number is sent everything."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[int, str]] = {}

    def note(self, site: str, node: int, model: str) -> None:
        """Remember that a site keeps a model."""
        self._held[site] = (node, model)

    def spared(self, sites: Iterable[str], nodes: Mapping[str, int], instruction: Instruction, kind: str) -> set[str]:
        """Sites that need not be sent the instruction's weights the first time they are asked."""
        if kind != TRAIN or not instruction.model:
            return set()
        return {site for site in sites if self._held.get(site) == (nodes[site], instruction.model)}
