"""TRIPOD+AI: complete, in order, in the published parts of the manuscript."""

from server.reports.study.checklists import tripod_items

PARTS = {3: "abc", 5: "ab", 6: "abc", 8: "abc", 9: "abc", 12: "abcdefg", 18: "abcdef", 20: "abc", 23: "ab", 27: "abc"}
"""Items with parts carry letters (Collins 2024, table 2)."""
AUTHORS = {"3a", "3c", "5b", "6c", "8a", "8b", "8c", "17", "18a", "18b", "18c", "18d", "19", "25"}
"""Facts about people, hospitals and money: no run of a program produces them."""


def test_tripod_ai_has_its_27_items_with_their_52_parts_once_and_in_order():
    expected = [f"{number}{part}" for number in range(1, 28) for part in PARTS.get(number, ("",))]
    assert len(expected) == 52
    assert [item.number for item in tripod_items()] == expected


def test_items_stand_in_the_published_part_of_the_manuscript():
    sections = {item.number: item.section for item in tripod_items()}
    published = {"4": "Introduction", "17": "Methods", "18f": "Open science", "20a": "Results", "26": "Discussion"}
    assert all(sections[number].startswith(name) for number, name in published.items())


def test_what_no_software_knows_is_left_to_the_authors():
    assert {item.number for item in tripod_items() if item.answered == "authors"} >= AUTHORS
