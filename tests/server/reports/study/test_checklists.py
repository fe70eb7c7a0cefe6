"""The checklists: complete as published, and honest about what a report cannot know."""

import re

from server.reports.study.checklists import ANCHORS, answered_counts, claim_items, tripod_items

# Rows of TRIPOD+AI's table: items with parts carry letters (Collins 2024, table 2).
PARTS = {3: "abc", 5: "ab", 6: "abc", 8: "abc", 9: "abc", 12: "abcdefg", 18: "abcdef", 20: "abc", 23: "ab", 27: "abc"}
# Facts about people, hospitals and money, by CLAIM's and by TRIPOD+AI's number: no run of a program produces them.
CLAIM_AUTHORS = {"14", "15", "16", "17", "18", "21", "34", "44"}
TRIPOD_AUTHORS = {"3a", "3c", "5b", "6c", "8a", "8b", "8c", "17", "18a", "18b", "18c", "18d", "19", "25"}


def test_claim_has_its_44_items_once_and_in_order():
    assert [item.number for item in claim_items()] == [str(number) for number in range(1, 45)]


def test_tripod_ai_has_its_27_items_with_their_52_parts_once_and_in_order():
    expected = [f"{number}{part}" for number in range(1, 28) for part in PARTS.get(number, ("",))]
    assert len(expected) == 52
    assert [item.number for item in tripod_items()] == expected


def test_items_stand_in_the_published_part_of_the_manuscript():
    sections = {item.number: item.section for item in claim_items()}
    published = {"3": "Introduction", "12": "Methods: data", "18": "Methods: reference standard", "39": "Results"}
    published |= {"20": "Methods: partitions", "27": "Methods: training", "33": "Methods: evaluation"}
    published |= {"40": "Discussion", "42": "Other information"}
    assert all(sections[number].startswith(name) for number, name in published.items())
    sections = {item.number: item.section for item in tripod_items()}
    published = {"4": "Introduction", "17": "Methods", "18f": "Open science", "20a": "Results", "26": "Discussion"}
    assert all(sections[number].startswith(name) for number, name in published.items())


def test_an_answer_names_an_anchor_of_the_page_and_says_what_stands_there():
    for item in (*claim_items(), *tripod_items()):
        here, _, theirs = item.where.partition("authors: ")
        if item.answered == "authors":
            assert not here, item.number
            assert not item.anchors
        else:
            assert item.anchors, item.number
            assert set(item.anchors) <= set(ANCHORS), item.number
            assert len(here.partition(": ")[2]) > 3, item.number
        assert (item.answered != "here") == bool(theirs), item.number


def test_every_section_of_the_page_answers_something():
    assert {name for item in (*claim_items(), *tripod_items()) for name in item.anchors} == set(ANCHORS)


def test_what_no_software_knows_is_left_to_the_authors():
    assert {item.number for item in claim_items() if item.answered == "authors"} >= CLAIM_AUTHORS
    assert {item.number for item in tripod_items() if item.answered == "authors"} >= TRIPOD_AUTHORS


def test_counts_add_up_to_the_checklist():
    for items in (claim_items(), tripod_items()):
        counts = answered_counts(items)
        assert counts == {kind: sum(item.answered == kind for item in items) for kind in ("here", "partly", "authors")}
        assert sum(counts.values()) == len(items)


def test_items_are_short_and_without_markup():
    for item in (*claim_items(), *tripod_items()):
        assert len(item.asks) <= 70, item.number
        assert not re.search(r"[<>|\n]", item.asks + item.where), item.number
