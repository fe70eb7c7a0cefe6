"""The soak's faults: the same for a seed, all kinds, within the run, and calm for the server at its end."""

import pytest

from tests.network.fault_plan import CALM_SHARE, KINDS, SERVER, draw

SITES = ("a", "b", "c")
ALL = {"disks", "clocks"}


def test_the_same_seed_draws_the_same_faults_and_another_one_others():
    assert draw(7, 300, 100, SITES, ALL) == draw(7, 300, 100, SITES, ALL)
    assert draw(7, 300, 100, SITES, ALL) != draw(8, 300, 100, SITES, ALL)


@pytest.mark.parametrize("seed", range(20))
def test_faults_come_in_order_within_the_run_and_happen_to_members(seed):
    plan = draw(seed, 300, 100, SITES, ALL)
    rounds = [fault.round for fault in plan]
    assert len(plan) == 100
    assert rounds == sorted(rounds)
    assert rounds[0] >= 1
    assert rounds[-1] < 299
    for fault in plan:
        kind = KINDS[fault.kind]
        assert fault.member in ((SERVER,) if kind.server else SITES)
        assert kind.lasts[0] <= fault.seconds <= kind.lasts[1]
        assert fault.jump_s in kind.jumps


@pytest.mark.parametrize("seed", range(20))
def test_every_kind_is_drawn_once_before_any_is_drawn_twice(seed):
    assert {fault.kind for fault in draw(seed, 60, len(KINDS), SITES, ALL)} == set(KINDS)


@pytest.mark.parametrize(("faults", "seed"), [(20, 1), (100, 2), (400, 3)])
def test_the_server_is_left_in_peace_at_the_end(faults, seed):
    plan = draw(seed, 900, faults, SITES, ALL)
    calm = plan[round(faults * (1 - CALM_SHARE)) :]
    assert any(fault.member == SERVER for fault in plan)
    assert all(fault.member != SERVER for fault in calm)


def test_what_the_machine_cannot_do_is_not_drawn():
    assert not {fault.kind for fault in draw(1, 300, 100, SITES, set())} & {
        name for name, kind in KINDS.items() if kind.needs
    }
