"""Which faults a soak makes, when, and to whom: drawn by a seed."""

import random
from dataclasses import dataclass

SERVER = "server"
CALM_SHARE = 1 / 3
"""At the end of a run nothing happens to the server, so that its processes live long enough to show that they grow."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: how often it is drawn against the others, how long it lasts (seconds), and what it needs."""

    weight: int
    lasts: tuple[float, float] = (0.0, 0.0)
    server: bool = False
    needs: str = ""  # "disks" or "clocks", which not every machine lets a test have
    jumps: tuple[int, ...] = (0,)  # of a clock, seconds


KINDS = {
    "node killed": Kind(4),
    "SuperNode killed": Kind(5),
    "warm process killed": Kind(5),
    "worker killed": Kind(6),
    "site without power": Kind(4, (2, 15)),
    "site asleep": Kind(6, (3, 20)),
    "line cut": Kind(6, (3, 20)),
    "line silent": Kind(6, (3, 20)),
    "line slow": Kind(5, (5, 15)),
    "line narrow": Kind(5, (5, 15)),
    "line broken off": Kind(6, (3, 8)),
    "line corrupted": Kind(5, (3, 8)),
    "site's disk full": Kind(3, (3, 10), needs="disks"),
    "site's disk stalled": Kind(3, (3, 10), needs="disks"),
    "site's clock wrong": Kind(4, (5, 15), needs="clocks", jumps=(30, -30, 400, -400, 7200, -7200, 90000, -90000)),
    "run's app killed": Kind(2, server=True),
    "SuperLink killed": Kind(1, server=True),
    "SuperLink asleep": Kind(1, (3, 15), server=True),
    "server killed": Kind(1, server=True),
    "server without power": Kind(1, (1, 5), server=True),
    "all without power": Kind(1, (1, 5), server=True),
    "nginx killed": Kind(1, server=True),
    "server's disk full": Kind(1, server=True, needs="disks"),
    "server's disk stalled": Kind(1, (3, 10), server=True, needs="disks"),
    "server's clock wrong": Kind(1, (5, 10), server=True, needs="clocks", jumps=(30, -30, 3600, -3600)),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: made once `round` is committed."""

    round: int
    kind: str
    member: str
    seconds: float
    jump_s: int


def draw(seed, rounds, faults, sites, able):
    """Faults of a run, in order; the same for the same arguments.

    `able` are the needs that this machine meets. Kinds are dealt as from a pack: each comes once before any twice.
    """
    chance = random.Random(seed)
    kinds = [name for name, kind in KINDS.items() if not kind.needs or kind.needs in able]
    dealt = []
    while len(dealt) < faults:
        for times in range(max(KINDS[name].weight for name in kinds)):
            dealt += chance.sample(left := [name for name in kinds if KINDS[name].weight > times], len(left))
    dealt = dealt[:faults]
    server = [name for name in dealt if KINDS[name].server]
    places = chance.sample(range(max(len(server), round(faults * (1 - CALM_SHARE)))), len(server))
    rest = iter([name for name in dealt if not KINDS[name].server])
    at = dict(zip(places, server, strict=True))
    order = [at[place] if place in at else next(rest) for place in range(faults)]
    last = rounds - max(5, rounds // 10)
    when = sorted(chance.randint(1, last) for _ in range(faults))
    return [_fault(chance, number, name, sites) for number, name in zip(when, order, strict=True)]


def _fault(chance, number, name, sites):
    kind = KINDS[name]
    member = SERVER if kind.server else chance.choice(sites)
    return Fault(number, name, member, round(chance.uniform(*kind.lasts), 1), chance.choice(kind.jumps))
