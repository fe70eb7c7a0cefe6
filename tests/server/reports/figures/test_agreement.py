"""A predicted number against its reference: the marks are the cases' numbers, differences or ratios."""

import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from server.reports.figures import agreement
from server.reports.figures.agreement import bland_altman_plot, scatter_plot
from server.reports.figures.style import ACCENT, INK
from shared.metrics.paired_numbers import NumberPair
from tests.server.reports.figures.rows import marks, row

VOLUME = NumberPair("volume_{}", "lesion volume", "ml", ("volume_ml", "reference_volume_ml"))
DENSITY = NumberPair("{}_density", "density", "%", ("density_percent", "reference_density_percent"))
TEXT = {"name": "figure", "description": "text"}
CASES = pd.DataFrame(
    {
        "case": ["a", "b", "c", "d"],
        "volume_ml": [1.0, 2.0, 0.0, 4.4],
        "reference_volume_ml": [1.0, 2.5, 3.0, 4.0],
    }
)


def test_bland_altman_marks_are_differences_or_ratios_of_the_cases_that_have_them():
    rows = {f"volume_{name}": row(value) for name, value in (("bias", 0.1), ("limit_low", -1.0), ("limit_high", 1.0))}
    plain = bland_altman_plot(CASES, rows, quantity=VOLUME, log=False, **TEXT)
    assert "n = 4" in plain
    assert "predicted minus reference, ml" in plain
    ratio = {f"volume_ratio_{name}": row(value, value * 0.9, value * 1.1) for name, value in (("bias", 1.0),)}
    log = bland_altman_plot(CASES, ratio, quantity=VOLUME, log=True, **TEXT)
    assert "n = 3" in log  # the failure has no ratio
    assert "predicted / reference" in log


@pytest.mark.parametrize("log", [False, True])
def test_the_words_below_a_comparison_of_many_cases_fit_on_the_figure(monkeypatch, log):
    drawn = []
    monkeypatch.setattr(agreement, "_svg", lambda figure, *_: drawn.append(figure))
    rows = {"volume_bias": row(0.1), "volume_ratio_bias": row(1.0)}
    bland_altman_plot(pd.concat([CASES] * 50), rows, quantity=VOLUME, log=log, **TEXT)
    canvas = FigureCanvasAgg(drawn[0])
    canvas.draw()
    words = drawn[0].axes[0].xaxis.label.get_window_extent(canvas.get_renderer())
    assert 0 <= words.x0 < words.x1 <= drawn[0].bbox.width


def test_densities_are_compared_at_their_places_in_percent():
    cases = pd.DataFrame({"density_percent": [10.0, 22.0, 31.0], "reference_density_percent": [12.0, 20.0, 29.0]})
    rows = {"bias_density": row(2 / 3), "limit_low_density": row(-3.0), "limit_high_density": row(5.0)}
    svg = bland_altman_plot(cases, rows, quantity=DENSITY, log=False, **TEXT)
    assert "density, %: mean of both (n = 3)" in svg
    assert "predicted minus reference, %" in svg
    found = marks(svg, INK)
    across = found[:, 0]  # means 11, 21, 30
    assert (across[1] - across[0]) / (across[2] - across[1]) == pytest.approx(10 / 9, rel=1e-2)
    assert found[1, 1] == pytest.approx(found[2, 1], abs=1e-3)  # both 2 too high
    assert found[0, 1] > found[1, 1]  # 2 too low; y runs down
    assert "95% limits" in svg


def test_predicted_stands_against_reference_with_the_line_of_equality():
    svg = scatter_plot(CASES, quantity=VOLUME, log=True, **TEXT)
    assert "reference lesion volume, ml (log scale, n = 3)" in svg  # nothing predicted has no place on it
    assert len(marks(svg, ACCENT)) == 3
    plain = scatter_plot(CASES.assign(volume_ml=[1.0, None, 0.0, 4.4]), quantity=VOLUME, log=False, **TEXT)
    assert "(n = 3)" in plain
    assert "equal" in plain
    assert "n = 0" in scatter_plot(CASES.head(0), quantity=VOLUME, log=True, **TEXT)
