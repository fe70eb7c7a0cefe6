"""Arms side by side: in their order, each at its figure, what does not exist is named."""

from server.reports.figures.arms import forest
from server.reports.figures.style import ACCENT, INK
from tests.server.reports.figures.rows import marks, row


def test_arms_stand_in_their_order_and_what_does_not_exist_is_named():
    rows = {"federated": row(0.8, 0.7, 0.9), "pooled": row(None), "local: a": row(0.5, 0.4, 0.6)}
    svg = forest({"": rows}, label="Dice (n = 4)", name="forest", description="text")
    assert svg.index(">federated<") < svg.index(">pooled<") < svg.index(">local: a<")
    assert svg.count(">undefined<") == 1
    first, last = marks(svg, ACCENT)[0], marks(svg, INK)[0]
    assert first[0] > last[0]
    assert first[1] < last[1]


def test_groups_have_headings_and_a_figure_without_interval_is_hollow():
    rows = {"federated": row(0.8, 0.7, 0.9), "oracle": row(0.9)}
    svg = forest({"ER": rows, "PR": rows}, label="AUC", name="forest", description="text")
    assert svg.index(">ER<") < svg.index(">federated<") < svg.index(">PR<")
    assert len(marks(svg, "#ffffff")) == 2
    assert svg.count("stroke-dasharray") == 1  # chance
    assert "stroke-dasharray" not in forest({"": rows}, label="Dice", name="f", description="t", reference=None)


def test_names_from_data_are_escaped():
    svg = forest({"": {"<script>": row(0.5)}}, label="&", name="forest", description="<b>")
    assert "<script" not in svg
    assert "&lt;script&gt;" in svg
    assert 'aria-label="&lt;b&gt;"' in svg
