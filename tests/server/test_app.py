"""What the server's app is told by its run."""

import pytest

from server.app import read_most_cases


@pytest.mark.parametrize(
    ("text", "cases"),
    [("", {}), ("centre-a=400", {"centre-a": 400}), ("centre-a=400,centre-b=80", {"centre-a": 400, "centre-b": 80})],
)
def test_the_cases_that_were_agreed(text, cases):
    assert read_most_cases(text) == cases
