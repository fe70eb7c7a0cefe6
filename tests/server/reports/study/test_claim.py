"""CLAIM 2024: complete, in order, in the published parts of the manuscript."""

from server.reports.study.checklists import claim_items

AUTHORS = {"14", "15", "16", "17", "18", "21", "34", "44"}
"""Facts about people, hospitals and money: no run of a program produces them."""


def test_claim_has_its_44_items_once_and_in_order():
    assert [item.number for item in claim_items()] == [str(number) for number in range(1, 45)]


def test_items_stand_in_the_published_part_of_the_manuscript():
    sections = {item.number: item.section for item in claim_items()}
    published = {"3": "Introduction", "12": "Methods: data", "18": "Methods: reference standard", "39": "Results"}
    published |= {"20": "Methods: partitions", "27": "Methods: training", "33": "Methods: evaluation"}
    published |= {"40": "Discussion", "42": "Other information"}
    assert all(sections[number].startswith(name) for number, name in published.items())


def test_what_no_software_knows_is_left_to_the_authors():
    assert {item.number for item in claim_items() if item.answered == "authors"} >= AUTHORS
