"""When a process of a soak counts as grown: by what it holds at its end, not by what it held for a moment."""

import pytest

from tests.network.soak_checks import GROWTH, WARM, Memory


def grown(sizes):
    memory = Memory(found=None)
    memory.seen = {("server", "flower-superlink", 1, "0"): [(5 * at, size) for at, size in enumerate(sizes)]}
    ((name, what, rounds, early, late),) = memory.grown()
    assert (name, what, rounds) == ("server", "flower-superlink", 5 * (len(sizes) - 1) - WARM)
    return late > GROWTH * early


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([90, 150, 155, 155, 156, 156, 156, 156, 156, 156], False),
        ([90, 150, 155, 155, 156, 156, 156, 156, 156, 168], False),  # messages in flight
        ([90, 150, 155, 155, 156, 168, 156, 156, 155, 156], False),
        ([90, 150, 155, 155, 156, 159, 162, 165, 168, 171], True),
        ([90, 150, 155, 155, 156, 156, 156, 168, 168, 168], True),
    ],
)
def test_a_leak_is_growth_and_a_moment_is_not(sizes, expected):
    assert grown(sizes) == expected


def test_what_lived_shortly_is_not_judged():
    memory = Memory(found=None)
    memory.seen = {("a", "nginx", 1, "0"): [(0, 1), (WARM, 1), (2 * WARM - 1, 9)]}
    assert memory.grown() == []
