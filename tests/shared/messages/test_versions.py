"""Versions on joining: scenario 68."""

import sys

import pytest

from shared.messages.versions import AGREED, differences, own_versions, read_versions, version_parts

OURS = {"python": (3, 11), "flwr": (1, 42, 0), "torch": (2, 13, 0), "monai": (1, 6, 1), "numpy": (2, 4, 6),
        "SimpleITK": (2, 5, 7)}  # fmt: skip


def test_the_leading_digits_of_each_part_are_told():
    found = [version_parts(text) for text in ("2.13.0+cpu", "2.14.0a1", "1.6", "2025.1.2.3", "0rc1.x", "JANE", "")]
    assert found == [(2, 13, 0), (2, 14, 0), (1, 6), (2025, 1, 2), (0,), (), ()]


def test_this_machine_tells_all_of_the_list_and_works_with_itself():
    assert set(own_versions()) == set(AGREED)
    assert all(own_versions().values())
    assert own_versions()["python"] == sys.version_info[:2]
    assert differences(own_versions(), own_versions()) == ""


@pytest.mark.parametrize(
    ("name", "theirs", "words"),
    [
        ("torch", (2, 12, 0), "runs torch 2.12.0, the server 2.13.0: install the versions of constraints.txt"),
        ("torch", (2, 13, 1), "runs torch 2.13.1, the server 2.13.0"),
        ("python", (3, 12), "runs python 3.12, the server 3.11"),
        ("monai", (), "runs monai of no known version, the server 1.6.1"),
        ("numpy", (1, 26, 4), "runs numpy 1.26.4, the server 2.4.6"),
        ("numpy", (2, 3, 0), ""),
        ("SimpleITK", (2, 6, 0), ""),
        ("SimpleITK", (3, 0, 0), "runs SimpleITK 3.0.0, the server 2.5.7"),
    ],
)
def test_what_differs_is_named_with_both_versions(name, theirs, words):
    told = differences(OURS | {name: theirs}, OURS)
    assert told.startswith(words)
    assert bool(told) == bool(words)


def test_a_site_that_tells_nothing_is_refused():
    assert "flwr of no known version" in differences({}, OURS)


@pytest.mark.parametrize("found", [{"JANE": [1]}, {"torch": [1, 2, 3, 1961]}, {"torch": "2"}, {"torch": [2.5]}])
def test_only_three_whole_numbers_under_a_known_name_are_read(found):
    with pytest.raises((TypeError, ValueError)):
        read_versions(found)
