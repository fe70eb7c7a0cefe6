"""Four centres: no shift makes them one, a full shift makes them themselves."""

from dataclasses import replace

import pytest

from shared.errors import ConfigError
from shared.phantom.centres import CENTRES, CONSENSUS_POPULATION, find_centre, population_at, protocol_at


def test_no_shift_means_one_protocol_and_one_population():
    assert len({protocol_at(centre, 0.0) for centre in CENTRES.values()}) == 1
    assert len({population_at(centre, 0.0) for centre in CENTRES.values()}) == 1
    assert population_at(CENTRES["B"], 0.0) == CONSENSUS_POPULATION


def test_full_shift_is_the_centres_own_protocol():
    for centre in CENTRES.values():
        assert protocol_at(centre, 1.0).echo_ms == pytest.approx(centre.protocol.echo_ms)
        assert protocol_at(centre, 1.0).post_times_s == pytest.approx(centre.protocol.post_times_s)
        assert protocol_at(centre, 2.0).snr > 0


def test_a_half_shift_lies_half_way():
    # Echo times: 3.0 ms at centre D, 2.1 ms in the consensus.
    assert protocol_at(CENTRES["D"], 0.5).echo_ms == pytest.approx(2.55)
    assert population_at(CENTRES["B"], 0.5).ln_diameter == pytest.approx(0.04)


@pytest.mark.parametrize("shift", [0.0, 0.6, 1.0, 5.0])
def test_shares_add_up_to_one_and_keep_their_floor(shift):
    for centre in CENTRES.values():
        population = population_at(centre, shift)
        for shares in (population.prevalence, population.density):
            assert sum(shares) == pytest.approx(1.0)
            assert min(shares) > 0.01
        assert population.background >= 0.2
        assert population.motion_mm >= 0.0


def test_a_centre_may_see_some_densities_only_in_the_shares_that_they_had_among_themselves():
    all_four = population_at(CENTRES["A"], 0.6)
    some = population_at(CENTRES["A"], 0.6, "bd")
    b, d = all_four.density[1], all_four.density[3]
    assert some.density == pytest.approx((0.0, b / (b + d), 0.0, d / (b + d)))
    assert replace(some, density=all_four.density) == all_four


def test_a_centre_is_named_by_its_key_or_by_its_site():
    assert find_centre("B") is find_centre("centre-b") is CENTRES["B"]
    with pytest.raises(ConfigError, match="centre-a, centre-b, centre-c, centre-d"):
        find_centre("centre-z")
