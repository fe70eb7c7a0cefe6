"""The checklists: complete, in order, honest about what a report cannot know, and linked to the page."""

import re

import pytest

from server.reports.study.checklists import checklists, guidelines

ANCHORS = {
    *("design", "flow", "table-1", "forest", "matrix", "learning", "roc", "agreement", "subgroups", "cases"),
    *("provenance", "limits", "model-card"),
}
CLAIM, TRIPOD = guidelines()["CLAIM 2024"], guidelines()["TRIPOD+AI"]
PARTS = {3: "abc", 5: "ab", 6: "abc", 8: "abc", 9: "abc", 12: "abcdefg", 18: "abcdef", 20: "abc", 23: "ab", 27: "abc"}
"""Items of TRIPOD+AI with parts carry letters (Collins 2024, table 2)."""
PUBLISHED = (
    {
        "3": "Introduction", "12": "Methods: data", "18": "Methods: reference standard", "39": "Results",
        "20": "Methods: partitions", "27": "Methods: training", "33": "Methods: evaluation", "40": "Discussion",
        "42": "Other information",
    },
    {"4": "Introduction", "17": "Methods", "18f": "Open science", "20a": "Results", "26": "Discussion"},
)  # fmt: skip
AUTHORS = (
    {"14", "15", "16", "17", "18", "21", "34", "44"},
    {"3a", "3c", "5b", "6c", "8a", "8b", "8c", "17", "18a", "18b", "18c", "18d", "19", "25"},
)
"""Facts about people, hospitals and money: no run of a program produces them."""


def test_claim_has_its_44_items_once_and_in_order():
    assert [item.number for item in CLAIM] == [str(number) for number in range(1, 45)]


def test_tripod_ai_has_its_27_items_with_their_52_parts_once_and_in_order():
    expected = [f"{number}{part}" for number in range(1, 28) for part in PARTS.get(number, ("",))]
    assert len(expected) == 52
    assert [item.number for item in TRIPOD] == expected


@pytest.mark.parametrize(("items", "published"), [(CLAIM, PUBLISHED[0]), (TRIPOD, PUBLISHED[1])])
def test_items_stand_in_the_published_part_of_the_manuscript(items, published):
    sections = {item.number: item.section for item in items}
    assert all(sections[number].startswith(name) for number, name in published.items())


@pytest.mark.parametrize(("items", "authors"), [(CLAIM, AUTHORS[0]), (TRIPOD, AUTHORS[1])])
def test_what_no_software_knows_is_left_to_the_authors(items, authors):
    assert {item.number for item in items if item.answered == "authors"} >= authors


def test_an_answer_names_an_anchor_of_the_page_and_says_what_stands_there():
    for item in (*CLAIM, *TRIPOD):
        here, _, theirs = item.where.partition("authors: ")
        if item.answered == "authors":
            assert not here, item.number
            assert not item.anchors
        else:
            assert item.anchors, item.number
            assert set(item.anchors) <= ANCHORS, item.number
            assert len(here.partition(": ")[2]) > 3, item.number
        assert (item.answered != "here") == bool(theirs), item.number


def test_every_section_of_the_page_answers_something():
    assert {name for item in (*CLAIM, *TRIPOD) for name in item.anchors} == ANCHORS


def test_counts_add_up_to_the_checklist():
    for part, items in zip(checklists(ANCHORS), (CLAIM, TRIPOD), strict=True):
        kinds = ("here", "partly", "authors")
        assert part["counts"] == {kind: sum(item.answered == kind for item in items) for kind in kinds}
        assert sum(part["counts"].values()) == len(items) == len(part["lines"])


def test_items_are_short_and_without_markup():
    for item in (*CLAIM, *TRIPOD):
        assert len(item.asks) <= 70, item.number
        assert not re.search(r"[<>|\n]", item.asks + item.where), item.number
