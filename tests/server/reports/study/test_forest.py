"""A forest plot's axis: wide enough for every interval, and not for an endless prediction."""

from server.reports.study.forest import Line, _limits, forest_plot


def test_the_axis_holds_every_interval_but_not_an_endless_prediction():
    lines = [Line("a", "", 0.6, 0.5, 0.7), Line("m", "", 0.6, 0.55, 0.65, "model", prediction=(-3.0, 4.0))]
    left, right = _limits(lines, None, None)
    assert -0.1 < left < 0.5
    assert 0.7 < right < 1.2
    assert _limits(lines, None, (0.0, 0.75))[1] == 0.75
    svg = forest_plot(lines, label="x", name="n", description="d")
    assert svg.count("<path") > forest_plot(lines[:1], label="x", name="n", description="d").count("<path")
    left, _ = _limits([lines[0]], 0.0, None)
    assert left < 0.0  # the line of no difference stays in sight
