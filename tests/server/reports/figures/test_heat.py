"""Figures of heat: pictures are decoded, the text says what is drawn."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from server.reports.figures import style
from server.reports.figures.heat import heat_panel, levels_panel
from shared.tasks.mammogram_heat import LEVEL
from tests.server.reports.figures.test_saliency import colour

SIZE = 32


def arrays(**changes):
    """CC is hot below at the right, MLO above at the left; untrained alike everywhere."""
    heat = np.zeros((2, 4, 4), np.float32)
    heat[0, 3, 3] = heat[1, 0, 0] = 7.0
    outline = np.zeros((2, SIZE, SIZE), bool)
    outline[0, 10:20, 10:20] = True
    given = {
        "views": np.array(["CC", "MLO"]),
        "image": np.random.default_rng(0).random((2, SIZE, SIZE)).astype(np.float16),
        "outline": outline,
        "heat": heat,
        "untrained": np.ones((2, 4, 4), np.float32),
        LEVEL + "level1": np.arange(2 * 16 * 16, dtype=np.float32).reshape(2, 16, 16),
        LEVEL + "pool4": np.ones((2, 2, 2), np.float32),
    }
    return given | changes


def panel(given, name="heat"):
    return str(heat_panel(given, title="HER2: yes, predicted with probability 0.73", name=name))


def pictures(svg):
    """All panels in the order of drawing, `(row, column, rgb)` from the top, 0 to 1; not the colour bar."""
    drawn = []
    for tag in re.findall(r"<image[^>]*>", svg):
        data = re.search(r'href="data:image/png;base64,([^"]*)"', tag, re.DOTALL)
        transform = re.search(r'transform="matrix\(([^)]*)\)"', tag)
        if transform:
            picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(data[1]))).convert("RGB"), float) / 255
            drawn.append(picture if float(transform[1].split()[3]) > 0 else picture[::-1])
    return drawn


def test_heat_lies_on_its_view_and_its_place():
    drawn = pictures(panel(arrays()))
    assert len(drawn) == 6  # three of each view
    grey, warm, even, grey_two, warm_two, even_two = map(colour, drawn)
    assert max(grey.max(), grey_two.max()) < 0.02
    for shown, corner in ((warm, (slice(-6, None), slice(-6, None))), (warm_two, (slice(6), slice(6)))):
        assert shown[corner].mean() > 0.2
        assert shown[SIZE // 2 - 4 : SIZE // 2 + 4, SIZE // 2 - 4 : SIZE // 2 + 4].max() < 0.05
    assert min(np.median(even), np.median(even_two)) > 0.1


def test_a_map_of_nothing_is_grey_and_told():
    svg = panel(arrays(heat=np.zeros((2, 4, 4), np.float32)))
    assert svg.count("no place raises the score") == 2
    assert max(colour(pictures(svg)[1]).max(), colour(pictures(svg)[4]).max()) < 0.02
    assert "no place" not in panel(arrays())


def test_the_outline_is_drawn_where_there_is_one():
    svg = panel(arrays())
    assert len(re.findall(rf"fill: none; stroke: {style.REFERENCE}", svg)) == 3  # CC alone
    assert style.REFERENCE not in panel(arrays(outline=np.zeros((2, SIZE, SIZE), bool)))


def test_the_title_and_the_text_tell_what_is_drawn():
    svg = panel(arrays())
    label = re.search(r'aria-label="([^"]*)"', svg)[1]
    for text in ("CC and MLO", "n = 1", "4 x 4 places", "HER2: yes, predicted with probability 0.73"):
        assert text in label
    for text in ("trained", "before training", "heat over its maximum", "CC", "MLO"):
        assert text in svg


def test_levels_are_drawn_from_their_least_to_their_greatest_value():
    svg = str(levels_panel(arrays(), title="HER2: yes", name="levels"))
    drawn = pictures(svg)
    assert len(drawn) == 4
    fine, coarse = drawn[0], drawn[1]
    assert fine[-1].mean() > fine[0].mean() + 0.4  # rows run down
    assert coarse.shape[:2] == (96, 96)  # every value is a square, not a blur
    assert np.ptp(coarse.reshape(-1, coarse.shape[2]), axis=0).max() < 0.02
    for text in ("level1", "pool4", "CC", "MLO"):
        assert text in svg
    assert "Mean activation behind level1, pool4" in svg


@pytest.mark.parametrize("shape", [(32, 32), (64, 40)])
def test_one_view_alone_is_drawn_alone_and_the_same_input_gives_the_same_bytes(shape):
    given = {name: value[1:] for name, value in arrays().items()}
    given["image"], given["outline"] = np.ones((1, *shape), np.float16), np.zeros((1, *shape), bool)
    svg = panel(given)
    assert len(pictures(svg)) == 3
    assert svg == panel(given)
    one, two = (set(re.findall(r'\bid="([^"]+)"', item)) for item in (svg, panel(given, "other")))
    assert not one & two
