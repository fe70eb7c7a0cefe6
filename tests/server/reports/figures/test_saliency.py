"""Figures of saliency: pictures are decoded, marks are the summary's numbers, the text says what is drawn."""

import base64
import io
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from server.evaluation.saliency import DIFFERENCE, LEARNT, SUMMARY
from server.reports.figures import style
from server.reports.figures.saliency import saliency_by_region, saliency_panel
from shared.cohort.labels import SUBTYPE_LABELS, SUBTYPES
from shared.saliency import REGIONS

SIZE = 16
CLASSES = {label.name: label.title for label in SUBTYPE_LABELS}


def patch(step=2.0):
    """A ball of 5 voxels' radius in noise, 2 image channels."""
    axis = np.arange(SIZE) - (SIZE - 1) / 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    distance = np.clip((5 - np.sqrt(z**2 + y**2 + x**2)) * step, -20, 20)
    image = np.random.default_rng(0).random((2, SIZE, SIZE, SIZE))
    return np.concatenate([image, distance[None]]).astype(np.float32)


def at(*spots):
    """A map whose mass lies in blocks of 3 voxels around `(z, y, x)`."""
    field = np.full((SIZE,) * 3, 1e-6, np.float32)
    for z, y, x in spots:
        field[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2] = 1.0
    return field / field.sum()


def panel(saliency, given=None, **changes):
    values = {"title": "Triple negative", "probability": 0.734, "name": "case"} | changes
    return str(saliency_panel(patch() if given is None else given, saliency, **values))


def pictures(svg):
    """The three planes as `(row, column, rgb)`, row 0 at the bottom of the page, 0 to 1."""
    found = []
    for tag in re.findall(r"<image[^>]*>", svg):
        data = re.search(r'href="data:image/png;base64,([^"]*)"', tag, re.DOTALL)
        transform = re.search(r'transform="matrix\(([^)]*)\)"', tag)
        if transform:  # the colour bar has another one
            assert float(transform[1].split()[3]) < 0
            picture = Image.open(io.BytesIO(base64.b64decode(data[1])))
            found.append(np.asarray(picture, float)[..., :3] / 255)
    assert len(found) == 3
    return found


def colour(picture):
    """How far each pixel is from grey."""
    return picture.max(axis=2) - picture.min(axis=2)


def test_colour_lies_where_the_saliency_is_and_the_rest_is_grey():
    # Superior, anterior, at low x: z and y and x each off the middle in one plane only.
    axial, coronal, sagittal = pictures(panel(at((8, 3, 5), (12, 8, 4), (12, 3, 8))))
    peaks = [np.unravel_index(np.argmax(colour(item)), (SIZE, SIZE)) for item in (axial, coronal, sagittal)]
    wanted = [(SIZE - 1 - 3, 5), (12, 4), (12, 3)]  # (row from the bottom, column): posterior is down, superior up
    for peak, spot in zip(peaks, wanted, strict=True):
        assert np.abs(np.subtract(peak, spot)).max() <= 1
    assert colour(axial)[:3, 10:].max() < 0.02


def test_the_first_uptake_is_what_lies_under_it():
    given = patch()
    given[1] = 0.0
    given[1, :, :3] = 1.0  # anterior
    given[1, 12:] = 1.0  # superior
    given[0] = np.random.default_rng(5).random(given[0].shape) * 100
    axial, coronal, sagittal = (item.mean(axis=2) for item in pictures(panel(at((8, 8, 8)), given)))
    assert axial[-1].min() > axial[0].max() + 0.5
    assert coronal[-1].min() > coronal[0].max() + 0.5
    assert sagittal[-1].min() > sagittal[0, 8:].max() + 0.5
    assert sagittal[0, :3].min() > sagittal[0, 8:].max() + 0.5


def test_the_title_and_the_text_tell_what_is_drawn():
    saliency = at((8, 8, 8))
    svg = panel(saliency)
    assert "Triple negative, predicted with probability 0.73" in svg
    label = re.search(r'aria-label="([^"]*)"', svg)[1]
    assert "n = 1" in label
    core = patch()[-1] > 4
    assert f"core {saliency[core].mean() / saliency.mean():.2g}" in label
    for word in ("axial", "coronal", "sagittal", "10 mm", "saliency over its mean"):
        assert word in svg


def test_the_scale_bar_is_ten_millimetres_on_any_grid():
    def bar(step):
        svg = panel(at((8, 8, 8)), patch(step))
        path = re.search(r'<path d="M ([\d.]+) [\d.]+ \s*L ([\d.]+) [\d.]+ \s*"[^>]*stroke: #ffffff', svg)
        width = SIZE * float(re.search(r'transform="matrix\(([\d.]+) ', svg)[1])
        return (float(path[2]) - float(path[1])) / width * SIZE * step

    assert bar(1.0) == pytest.approx(10.0, rel=0.05)
    assert bar(2.0) == pytest.approx(10.0, rel=0.05)


def test_the_lesion_is_outlined_in_each_plane_and_an_even_map_does_not_blaze():
    svg = panel(np.full((SIZE,) * 3, 1 / SIZE**3, np.float32))
    assert len(re.findall(rf"fill: none; stroke: {style.REFERENCE}", svg)) == 3
    assert max(colour(item).max() for item in pictures(svg)) < 0.4
    assert max(colour(item).max() for item in pictures(panel(at((8, 8, 8))))) > 0.5


def test_a_map_of_nothing_is_drawn_in_grey():
    assert max(colour(item).max() for item in pictures(panel(np.zeros((SIZE,) * 3, np.float32)))) < 0.02


def summary(learnt=True):
    rows = []
    for reader, shift in (("ensemble", 0.0), ("volume", 1.0)):
        for i, subtype in enumerate(SUBTYPES):
            for j, region in enumerate(REGIONS):
                value = 1.0 + shift + 0.5 * i + 0.1 * j
                empty = (subtype, region) == ("triple_negative", "core")
                rows.append((reader, subtype, region, value, value - 0.2, value + 0.2, 6 if empty else 8, 8))
        rows.append((reader, DIFFERENCE, "surroundings", -0.123, -0.3, 0.4, 24, 24))
        if learnt:
            rows.append((reader, LEARNT, "surroundings", 0.25, 0.05, 0.5, 24, 24))
    return pd.DataFrame(rows, columns=list(SUMMARY))


def marks(svg, colour_of_marks):
    """Positions of marks in the order of drawing, SVG units."""
    pattern = rf'<use href="#[^"]*" x="([\d.-]+)" y="([\d.-]+)" style="fill: {colour_of_marks}'
    return np.array(re.findall(pattern, svg), float)


def test_points_and_intervals_are_the_readers_rows():
    table = summary()
    svg = str(saliency_by_region(table, CLASSES, reader="volume", name="regions"))
    ticks = marks(svg, style.MUTED)
    _, _, _, _, zero, one = ticks[:6, 1]  # four regions, then 0 and 1 of the other axis
    places = set()
    for subtype, hue in zip(SUBTYPES, style.SITES, strict=False):
        rows = table[(table["reader"] == "volume") & (table["subtype"] == subtype)]
        points = marks(svg, hue)[: len(REGIONS)]  # and one in the legend
        lines = re.findall(rf'<path d="M ([\d.]+) ([\d.]+) \s*L [\d.]+ ([\d.]+) \s*"[^>]*stroke: {hue}', svg)
        drawn = np.column_stack([points[:, 1], np.array(lines, float)[:, 1:]])
        np.testing.assert_allclose((zero - drawn) / (zero - one), rows[["value", "low", "high"]], atol=1e-3)
        np.testing.assert_allclose(points[:, 0], np.array(lines, float)[:, 0])
        assert np.abs(points[:, 0] - ticks[:4, 0]).max() < 0.5 * (ticks[1, 0] - ticks[0, 0])
        places |= set(points[:, 0])
    assert len(places) == 16  # no subtype hides another


def test_counts_and_the_comparison_stand_in_the_figure_and_its_text():
    svg = str(saliency_by_region(summary(), CLASSES, reader="ensemble", name="regions"))
    label = re.search(r'aria-label="([^"]*)"', svg)[1]
    assert "Luminal A, n = 8" in svg
    assert "Triple negative, n = 6 to 8" in svg
    minus = "\N{MINUS SIGN}"
    for text in (
        "Surroundings, triple negative minus luminal, n = 24",
        f"as read: {minus}0.12 ({minus}0.30 to +0.40)",
        "beyond an untrained network: +0.25 (+0.05 to +0.50)",
    ):
        assert text in svg
        assert text in label
    assert "reader: ensemble" in label
    assert "Luminal B (n = 8): core 1.50, rim 1.60, surroundings 1.70, beyond 1.80." in label
    assert "untrained" not in str(saliency_by_region(summary(learnt=False), CLASSES, reader="ensemble", name="regions"))


def test_a_summary_without_values_draws():
    empty = summary().assign(value=np.nan, low=np.nan, high=np.nan, n=0)
    svg = str(saliency_by_region(empty, CLASSES, reader="ensemble", name="regions"))
    assert "Luminal A, n = 0" in svg
    assert "nan" not in svg


def test_figures_share_no_id_and_the_same_input_gives_the_same_bytes():
    one, two = (
        panel(at((8, 8, 8)), name="one"),
        str(saliency_by_region(summary(), CLASSES, reader="volume", name="two")),
    )
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (one, two)]
    assert ids[0]
    assert not ids[0] & ids[1]
    assert one == panel(at((8, 8, 8)), name="one")
