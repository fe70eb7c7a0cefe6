"""A section of two structures and a number: its figures, its pictures, alone and beside the lesions'."""

import html
import json
import re
import shutil

import numpy as np
import pytest

from server.reports.page import build_report
from server.run_folder.pictures import read_pictures
from server.run_folder.results import read_results
from shared.errors import RunError
from tests.server.reports.invented_tissues import TASK, add_tissues


def text_of(page):
    body = re.sub(r"<style.*?</style>|<svg.*?</svg>", "", page, flags=re.DOTALL)
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body)))


def section(page):
    return page.split('<section id="breast-segmentation">')[1].split("</section>")[0]


@pytest.fixture(scope="module")
def built(templates, tmp_path_factory):
    """A page of both segmentations, for tests that only read it; with its folder."""
    run = add_tissues(shutil.copytree(templates["alone"], tmp_path_factory.mktemp("both") / "quick-0"))
    return run, build_report(run).read_text()


def test_every_figure_of_the_section_is_one_of_results_json_and_all_densities_are_there(built):
    run, page = built
    stored = [row for row in read_results(run).rows if row.task == TASK]
    shown = set(re.findall(r'data-metric="([\w.]+)" data-value="([^"]+)"', section(page)))
    assert shown <= {(row.metric, str(row.value)) for row in stored}
    assert {(row.metric, str(row.value)) for row in stored if row.role == "external"} <= shown
    assert len(shown) > 12
    text = text_of(section(page))
    error = next(row for row in stored if (row.role, row.metric) == ("external", "mae_density"))
    assert f"Mean absolute error of density , % {error.value:.1f}" in text
    assert error.n == 11
    assert "Of 1 case with a reference there is no predicted number." in text


def test_the_lead_tells_of_lesions_first_then_of_tissues(built):
    run, page = built
    lead = text_of(page.split('class="lead">')[1].split("</div>")[0])
    rows = {(row.task, row.metric): row for row in read_results(run).rows if row.role == "external"}
    lesion, breast = rows["lesion-segmentation", "dice"], rows[TASK, "dice_breast"]
    assert lead.index(f"Dice {lesion.value:.3f}") < lead.index(f"Dice, breast {breast.value:.3f}")
    assert f"Density is off by {rows[TASK, 'mae_density'].value:.1f} percentage points" in lead
    assert f"against {rows[TASK, 'mae_density_of_mean'].value:.1f} for always answering these cases' mean" in lead
    assert '<a href="#breast-segmentation">Breast and fibroglandular tissue</a>' in page
    assert page.index('id="lesion-segmentation"') < page.index('id="breast-segmentation"') < page.index('id="cases"')
    assert "Worst cases" in page


def test_a_run_of_tissues_alone_has_a_page_without_lesions(make_folder):
    page = build_report(add_tissues(make_folder(), alone=True)).read_text()
    assert 'id="lesion-segmentation"' not in page
    assert "Breast and fibroglandular tissue: trained at three phantom sites" in page
    assert "which never trained: Dice, fibroglandular tissue" in page
    assert "mean Dice of both structures of each round" in page


def test_pictures_have_an_outline_for_each_structure_of_reference_and_prediction(built):
    run, page = built
    (best, *_) = read_pictures(run, TASK)
    axial = best.views["axial"]
    assert set(np.unique(axial.reference)) == {0, 1, 2}
    drawn = re.findall(r'<svg[^>]*aria-label="median case, axial[^>]*>.*?</svg>', section(page), re.DOTALL)
    assert len(drawn) == 1
    colours = {"#56b4e9": 2, "#e69f00": 2}
    for colour, outlines in colours.items():
        assert len(re.findall(rf'<path d="[^"]*"[^>]*stroke: {colour}', drawn[0])) == outlines
    assert section(page).count("<svg") == 2 + 3 * 3
    assert "Outlines from the outside in: breast, fibroglandular." in section(page)


def test_phantoms_are_named_in_the_section_and_only_phantoms(built, make_folder):
    _, page = built
    assert "(phantoms)" in section(page)
    assert section(page).count("phantom") >= 9
    real = add_tissues(make_folder())
    stored = json.loads((real / "results.json").read_text())
    stored["provenance"] |= {"phantom": False, "seeds": {"training": 3}}
    (real / "results.json").write_text(json.dumps(stored))
    assert "hantom" not in section(build_report(real).read_text())


def test_a_centre_without_reference_masks_is_said_to_have_evaluated_nothing(make_folder):
    page = build_report(add_tissues(make_folder(), alone=True, cases=0)).read_text()
    assert "No case of centre-d has the reference or a label that this task needs" in page
    assert "internal figures flatter" in page


def test_cases_without_their_figures_are_refused(make_folder):
    run = add_tissues(make_folder())
    stored = json.loads((run / "results.json").read_text())
    stored["rows"] = [row for row in stored["rows"] if (row["task"], row["role"]) != (TASK, "external")]
    (run / "results.json").write_text(json.dumps(stored))
    with pytest.raises(RunError, match="figures of the chosen model at 'centre-d' for breast-segmentation"):
        build_report(run)
