"""Updates that are others' to the last bit: no two honest ones are, as each site draws its batches by its own seed.

So a site did not train that sends back the model as it came, an update of an earlier round or another site's. Of two
that are alike in one round nobody can say whose it is, and neither counts. A copy with one bit changed is not known for
one: its site then moves the model as `update_reach` allows, and no further.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np

from server.federation.averaging import BLOCK, RunningAverage
from server.run_folder.round_record import RoundRecord, SiteEntry
from shared.errors import UpdateError
from shared.types import FloatArray


def update_hash(weights: FloatArray) -> str:
    """SHA-256 of an update `(n,)`, folded to a block by exclusive or: each bit counts, and 100 MB take 0.05 s."""
    bits = weights.view(np.uint32)
    whole = len(bits) - len(bits) % BLOCK
    digest = hashlib.sha256(np.bitwise_xor.reduce(bits[:whole].reshape(-1, BLOCK), axis=0).tobytes())
    digest.update(bits[whole:].tobytes())
    return digest.hexdigest()


class Originals:
    """Adds a round's updates to its average, but copies; a task's `records` so far and the model `sent` are known."""

    def __init__(self, average: RunningAverage, sent: FloatArray, records: Iterable[RoundRecord]) -> None:
        self.average = average
        self.hashes: dict[str, str] = {}
        self._counted: dict[str, Mapping[str, int]] = {}
        self._alike: defaultdict[str, list[str]] = defaultdict(list)
        self._before = {
            entry.update_hash: f"the update of {site} in round {record.round}"
            for record in records
            for site, entry in record.sites.items()
            if entry.update_hash
        } | {update_hash(sent): "the model that was sent"}

    def add(self, site: str, update: FloatArray, cases: Mapping[str, int]) -> None:
        """Add a site's update with its cases by label.

        `UpdateError` where it is a copy; if of another site's in this round, that one's is taken out as well.
        """
        own = update_hash(update)
        if own in self._before:
            raise UpdateError(f"sends {self._before[own]}, to the last bit: it did not train")
        self.hashes[site] = own
        alike = self._alike[own]
        if site not in alike:
            alike.append(site)
        if len(alike) > 1:
            if alike[0] in self._counted:
                self.average.remove(update, self._counted.pop(alike[0]))
            raise UpdateError(self._why(site))
        self.average.add(update, cases)
        self._counted[site] = cases

    def enter(self, ledger: dict[str, SiteEntry]) -> None:
        """Enter into a round's ledger each accepted update's hash, and who is refused after all."""
        for site, reason in self.refused().items():
            ledger[site] = SiteEntry("refused", reason, attempts=ledger[site].attempts)
        for site, entry in ledger.items():
            entry.update_hash = self.hashes[site] if entry.status == "accepted" else ""

    def refused(self) -> dict[str, str]:
        """Each site whose last update was alike another's of this round, and why it is refused."""
        return {site: self._why(site) for site, own in self.hashes.items() if len(self._alike[own]) > 1}

    def _why(self, site: str) -> str:
        others = ", ".join(sorted(set(self._alike[self.hashes[site]]) - {site}))
        return f"its update is that of {others} to the last bit: one copied the other's, and neither counts"
