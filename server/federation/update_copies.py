"""Updates that are others' to the last bit: no two honest ones are, as each site draws its batches by its own seed.

So a site did not train that sends back the model as it came, an update of an earlier round or another site's. Of two
that are alike in one round nobody can say whose it is, and neither counts. A copy with one bit changed is not known for
one: its site then moves the model as `update_reach` allows, and no further.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable

import numpy as np

from server.federation.averaging import BLOCK
from server.run_folder.round_record import RoundRecord
from shared.errors import UpdateError
from shared.types import FloatArray


def update_hash(weights: FloatArray) -> str:
    """SHA-256 of an update `(n,)`, folded to a block by exclusive or: each bit counts, and 100 MB take 0.05 s."""
    bits = weights.view(np.uint32)
    whole = len(bits) - len(bits) % BLOCK
    digest = hashlib.sha256(np.bitwise_xor.reduce(bits[:whole].reshape(-1, BLOCK), axis=0))
    digest.update(bits[whole:])
    return digest.hexdigest()


class Copies:
    """Hashes of a task's updates: of its `records` so far, of the model that is sent, and of this round by site."""

    def __init__(self, sent: FloatArray, records: Iterable[RoundRecord]) -> None:
        self.entered: dict[str, str] = {}
        self._alike: defaultdict[str, list[str]] = defaultdict(list)
        self._before = {
            entry.update_hash: f"the update of {site} in round {record.round}"
            for record in records
            for site, entry in record.sites.items()
            if entry.update_hash
        } | {update_hash(sent): "the model that was sent"}

    def enter(self, site: str, weights: FloatArray, take_out: Callable[[str], object]) -> None:
        """Enter a site's update.

        `UpdateError` where it is a copy; if of another site's in this round, that one's is taken out as well.
        """
        own = update_hash(weights)
        if own in self._before:
            raise UpdateError(f"sends {self._before[own]}, to the last bit: it did not train")
        self.entered[site] = own
        alike = self._alike[own]
        if site not in alike:
            alike.append(site)
            if alike[1:] == [site]:
                take_out(alike[0])
        if len(alike) > 1:
            raise UpdateError(self._why(site))

    def refused(self) -> dict[str, str]:
        """Each site whose last update was alike another's of this round, and why it is refused."""
        return {site: self._why(site) for site, own in self.entered.items() if len(self._alike[own]) > 1}

    def _why(self, site: str) -> str:
        others = ", ".join(sorted(set(self._alike[self.entered[site]]) - {site}))
        return f"its update is that of {others} to the last bit: one copied the other's, and neither counts"
