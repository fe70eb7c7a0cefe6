"""Copies of updates among honest ones: whose they are, and that neither order nor retries matter."""

from itertools import permutations

import numpy as np
import pytest

from server.federation.averaging import BLOCK
from server.federation.update_copies import Originals, update_hash
from server.run_folder.round_record import RoundRecord, SiteEntry
from shared.errors import UpdateError

SENT = np.zeros(4, np.float32)
ONE, TWO, OLD = (np.full(4, value, np.float32) for value in (1, 2, 3))
ACCEPTED = SiteEntry("accepted", update_hash=update_hash(OLD))
BEFORE = RoundRecord("t", 2, "", 0.0, {"north": ACCEPTED, "east": SiteEntry("absent")})


class Sum:
    """An average of which only is known who is in it."""

    def __init__(self):
        self.within, self.out = [], []

    def add(self, update, cases):
        self.within.append((update.tobytes(), cases))

    def remove(self, update, cases):
        self.within.remove((update.tobytes(), cases))
        self.out.append(cases["site"])


def entered(order):
    """Sites' updates added in this order; those taken out, those refused at once."""
    originals, refused = Originals(Sum(), SENT, [BEFORE]), {}
    for site, update in order:
        try:
            originals.add(site, update.copy(), {"site": site})
        except UpdateError as error:
            refused[site] = str(error)
    return originals, originals.average.out, refused


def test_of_two_that_are_alike_neither_counts_in_any_order_and_each_is_told_of_the_other():
    sites = [("north", ONE), ("south", TWO), ("east", ONE), ("west", ONE)]
    told = []
    for order in permutations(sites):
        originals, out, _ = entered(order)
        assert out == [next(site for site, update in order if update is ONE)]
        told.append(originals.refused())
    assert set(told[0]) == {"north", "east", "west"}
    assert "is that of north, west to the last bit" in told[0]["east"]
    assert all(item == told[0] for item in told)


def test_what_is_sent_back_as_it_came_or_as_before_is_told_and_enters_nothing():
    originals, out, refused = entered([("south", SENT), ("east", OLD), ("north", OLD), ("west", ONE)])
    assert refused["south"] == "sends the model that was sent, to the last bit: it did not train"
    assert refused["east"] == refused["north"]
    assert refused["east"].startswith("sends the update of north in round 2, to the last bit")
    assert (out, list(originals.hashes), originals.refused()) == ([], ["west"], {})


def test_one_that_is_asked_again_may_mend_and_whose_copy_it_was_stays_out():
    originals, out, refused = entered([("north", ONE), ("east", ONE), ("east", ONE), ("east", TWO)])
    assert out == ["north"]
    assert "north" in refused["east"]
    assert list(originals.refused()) == ["north"]


@pytest.mark.parametrize("size", [1, BLOCK - 1, BLOCK, 3 * BLOCK + 7])
def test_each_bit_of_an_update_counts(size):
    weights = np.linspace(-1, 1, size, dtype=np.float32)
    hashes = {update_hash(weights)}
    for place in {0, size // 2, size - 1}:
        other = weights.copy()
        other[place] = np.nextafter(other[place], np.float32(2))
        hashes.add(update_hash(other))
    assert len(hashes) == 1 + len({0, size // 2, size - 1})
    assert update_hash(weights.copy()) in hashes


@pytest.mark.parametrize("entry", [SiteEntry("accepted"), SiteEntry("refused", update_hash="")])
def test_a_journal_of_before_this_check_knows_no_update(entry):
    originals = Originals(Sum(), SENT, [RoundRecord("t", 1, "", 0.0, {"north": entry})])
    originals.add("north", ONE, {"site": "north"})
    assert originals.hashes == {"north": update_hash(ONE)}
