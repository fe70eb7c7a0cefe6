"""The page of `fedbreast check`: self-contained, with a picture of each case, without an identifier."""

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from server.reports.site_check.page import write_page
from server.reports.site_check.thumbnails import thumbnail
from shared.cohort.table_summary import Doubt, Support, TableSummary, Unread
from shared.modalities.checked_case import LESION, CheckedCase, Panel, SeenSeries
from shared.site_check.site_report import CaseReport, SiteReport


@pytest.fixture
def report(tmp_path):
    panels = [Panel("before contrast", np.full((40, 60), 90, np.uint8), np.zeros((40, 60), np.uint8))]
    good = CheckedCase([SeenSeries(48, "GR", taken=True)], {"phases_s": [0.0, 90.0]}, ["Times were guessed."])
    bad = CheckedCase(reason="mask_mismatch", detail="a mask of <2> slices", panels=panels)
    support = (Support("er", "positive", 2, 1, {"train": 1}),)
    table = TableSummary(
        2, 2, ("patient_id", "side"), (Unread(3, "subtype"),), support, (Doubt("leak", "two splits", (2, 3)),)
    )
    cases = tuple(CaseReport(row, "left", "MR", seen, {"er": "positive"}) for row, seen in ((2, good), (3, bad)))
    return SiteReport(
        "north", phantom=True, table=table, cases=cases, flags={}, known=0, who=tmp_path / "SECRET" / "r.csv"
    )


def written(report, tmp_path):
    write_page(report, tmp_path / "check.html")
    return (tmp_path / "check.html").read_text()


def test_it_tells_what_is_left_out_with_the_remedy_and_what_was_guessed(report, tmp_path):
    text = written(report, tmp_path)
    for words in (
        "1 of 2 cases can be used",
        "The mask does not lie on the voxels of the images.",
        "Draw or export it on the very images of the row.",
        "A mask of &lt;2&gt; slices.",
        "Times were guessed.",
        "phases, s",
        "field 3 (is <code>subtype</code> meant?",
        "Leak: two splits (rows 2-3)",
        "PHANTOM",
    ):
        assert words in text
    assert text.index('id="row-3"') < text.index('id="row-2"')  # what is left out comes first


def test_it_asks_for_nothing_and_names_no_place_of_this_machine(report, tmp_path):
    text = written(report, tmp_path)
    assert re.findall(r'(?:src|href)="(?!#|data:)', text) == []
    assert "SECRET" not in text
    assert "SECRET" not in repr(report)


def test_a_page_of_patients_has_no_banner_of_phantoms(report, tmp_path):
    assert "PHANTOM" not in written(replace(report, phantom=False), tmp_path)


def test_a_thumbnail_has_the_outline_in_colour_and_no_tags():
    lines = np.zeros((40, 60), np.uint8)
    lines[20, 10:50] = LESION
    address = thumbnail(Panel("b", np.full((40, 60), 90, np.uint8), lines))
    image = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
    assert image.size == (60, 40)
    assert not image.getexif()
    pixels = np.asarray(image, int)
    assert np.ptp(pixels[5, 30]) < 12
    assert pixels[20, 30, 0] - pixels[20, 30, 2] > 60
