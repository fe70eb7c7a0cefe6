"""The checklists: honest about what a report cannot know, and linked to the page."""

import re

from server.reports.study.checklists import ANCHORS, answered_counts, claim_items, tripod_items


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


def test_counts_add_up_to_the_checklist():
    for items in (claim_items(), tripod_items()):
        counts = answered_counts(items)
        assert counts == {kind: sum(item.answered == kind for item in items) for kind in ("here", "partly", "authors")}
        assert sum(counts.values()) == len(items)


def test_items_are_short_and_without_markup():
    for item in (*claim_items(), *tripod_items()):
        assert len(item.asks) <= 70, item.number
        assert not re.search(r"[<>|\n]", item.asks + item.where), item.number
