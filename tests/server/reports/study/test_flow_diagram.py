"""The flow of cases adds up in drawing and table."""

import re

from server.reports.study import flow_diagram


def words(svg):
    return re.findall(r"<text[^>]*>([^<]*)</text>", svg)


def test_the_flow_adds_up_in_drawing_and_table(study):
    found = flow_diagram.flow(study)
    text = words(found["svg"])
    assert [word for word in text if word.startswith("listed")] == [
        "listed: 20",
        "listed: 22",
        "listed: 23",
        "listed: 24",
    ]
    assert "missing phase: 3" in text
    assert text.count("Lesion outlines: 20") == 4
    line = found["lines"][3]
    assert (line["listed"], line["left_out"], line["why"]) == (24, 4, "missing phase (3), empty mask (1)")
    assert line["evaluated"] == [(20, 20), (20, 20)]
