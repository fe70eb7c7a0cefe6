"""Figures: the marks are the numbers, ids are unique, the same input gives the same bytes."""

import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from server.reports.figures import agreement, style
from server.reports.figures.agreement import DENSITY, bland_altman_plot
from server.run_folder.results import ResultRow


def row(value, low=None, high=None, metric="dice"):
    return ResultRow(
        task="t", arm="federated", seed=0, centre="d", role="external", metric=metric, unit="1",
        value=value, ci_low=low, ci_high=high, n=4, model_hash="h",
    )  # fmt: skip


CASES = pd.DataFrame(
    {
        "case": ["a", "b", "c", "d"],
        "dice": [0.5, 1.0, 0.0, 0.75],
        "failed": [False, False, True, False],
        "volume_ml": [1.0, 2.0, 0.0, 4.4],
        "reference_volume_ml": [1.0, 2.5, 3.0, 4.0],
    }
)


def marks(svg, colour):
    """Positions of scatter marks of one colour, SVG units."""
    found = re.findall(rf'<use href="#[^"]*" x="([\d.-]+)" y="([\d.-]+)" style="[^"]*(?:fill|stroke): {colour}', svg)
    return np.array(found, float)


def test_each_case_is_a_mark_at_its_dice():
    svg = style.dice_strip(CASES, row(0.5625, 0.2, 0.9), "text")
    good = marks(svg, style.INK)
    heights = good[np.argsort(good[:, 0]), 1]  # three cases in order of Dice: 0.5, 0.75, 1; y runs down
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], rel=1e-3)
    assert len(heights) == 3
    assert "n = 4" in svg
    assert "nothing predicted" in svg


def test_bland_altman_marks_are_differences_or_ratios_of_the_cases_that_have_them():
    rows = {f"volume_{name}": row(value) for name, value in (("bias", 0.1), ("limit_low", -1.0), ("limit_high", 1.0))}
    plain = bland_altman_plot(CASES, rows, log=False, description="text")
    assert "n = 4" in plain
    assert "predicted minus reference, ml" in plain
    ratio = {f"volume_ratio_{name}": row(value, value * 0.9, value * 1.1) for name, value in (("bias", 1.0),)}
    log = bland_altman_plot(CASES, ratio, log=True, description="text")
    assert "n = 3" in log  # the failure has no ratio
    assert "predicted / reference volume" in log


@pytest.mark.parametrize("log", [False, True])
def test_the_words_below_a_comparison_of_many_cases_fit_on_the_figure(monkeypatch, log):
    drawn = []
    monkeypatch.setattr(agreement, "_svg", lambda figure, *_: drawn.append(figure))
    rows = {"volume_bias": row(0.1), "volume_ratio_bias": row(1.0)}
    bland_altman_plot(pd.concat([CASES] * 50), rows, log=log, description="text")
    canvas = FigureCanvasAgg(drawn[0])
    canvas.draw()
    words = drawn[0].axes[0].xaxis.label.get_window_extent(canvas.get_renderer())
    assert 0 <= words.x0 < words.x1 <= drawn[0].bbox.width


def test_densities_are_compared_at_their_places_in_percent():
    cases = pd.DataFrame({"density_percent": [10.0, 22.0, 31.0], "reference_density_percent": [12.0, 20.0, 29.0]})
    rows = {"bias_density": row(2 / 3), "limit_low_density": row(-3.0), "limit_high_density": row(5.0)}
    svg = bland_altman_plot(cases, rows, log=False, description="text", quantity=DENSITY, name="densities")
    assert "mean of the two densities, % (n = 3)" in svg
    assert "predicted minus reference, %" in svg
    found = marks(svg, style.INK)
    across = found[:, 0]  # means 11, 21, 30
    assert (across[1] - across[0]) / (across[2] - across[1]) == pytest.approx(10 / 9, rel=1e-2)
    assert found[1, 1] == pytest.approx(found[2, 1], abs=1e-3)  # both 2 too high
    assert found[0, 1] > found[1, 1]  # 2 too low; y runs down
    assert "95% limits" in svg


def test_learning_curves_name_each_site_and_the_chosen_round():
    curves = [style.Curve("centre-a", [1, 2, 3], [1.0, 0.5, 0.3]), style.Curve("b$x$", [1, 3], [0.9, 0.4])]
    svg = style.learning_curves(curves, label="training loss", name="loss", description="text", best_round=2)
    for text in ("centre-a", "b$x$", "chosen round (2)", "training loss", ">round<"):
        assert text in svg


def test_forest_shows_models_in_their_order_and_skips_what_does_not_exist():
    rows = {"federated": row(0.8, 0.7, 0.9), "pooled": row(None), "local: a": row(0.5, 0.4, 0.6)}
    svg = style.forest(rows, label="Dice (n = 4)", description="text")
    assert svg.index(">federated<") < svg.index(">pooled<") < svg.index(">local: a<")


def test_figures_without_cases_draw():
    none = CASES.head(0)
    assert "n = 0" in style.dice_by_size(none, "text")
    assert "n = 0" in style.volume_scatter(none, "text")


def test_two_figures_share_no_id_and_the_same_input_gives_the_same_bytes():
    one, two = style.dice_by_size(CASES, "text"), style.volume_scatter(CASES, "text")
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (one, two)]
    assert ids[0]
    assert not ids[0] & ids[1]
    for svg in (one, two):
        used = set(re.findall(r'(?:href="|url\()#([^")]+)', svg))
        assert used
        assert used <= set(re.findall(r'\bid="([^"]+)"', svg))
    assert style.dice_by_size(CASES, "text") == one


def test_names_from_data_are_escaped():
    svg = style.forest({"<script>": row(0.5)}, label="&", description="<b>")
    assert "<script" not in svg
    assert "&lt;script&gt;" in svg
    assert 'aria-label="&lt;b&gt;"' in svg
