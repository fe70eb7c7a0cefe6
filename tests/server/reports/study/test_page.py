import base64
import hashlib
import html
import json
import re
import shutil

import pytest

from server.reports.study.page import build_study_report
from server.run_folder.study_tables import read_tables
from tests.server.reports.study.invented_study import CLASSIFIER, SEGMENTATION, make_study
from tests.server.reports.study.test_checklists import ANCHORS


@pytest.fixture(scope="session")
def small(tmp_path_factory):
    """One task, two arms and no pictures: quick to draw."""
    kinds = ("local", "federated")
    folder = make_study(
        tmp_path_factory.mktemp("small") / "study", (CLASSIFIER,), phantom=False, kinds=kinds, labels=("er",)
    )
    build_study_report(folder)
    return folder


def every_file(folder):
    return {path.name: path.read_bytes() for path in [folder / "report.html", *(folder / "figures").iterdir()]}


def test_made_again_page_and_figures_have_the_same_bytes(small):
    before = every_file(small)
    build_study_report(small)
    assert every_file(small) == before
    assert {name.split(".")[-1] for name in before} == {"html", "svg", "pdf"}


def test_phantoms_are_named_above_the_page_and_under_every_figure_and_patients_are_not(page, small):
    assert "PHANTOM DATA, not patients" in page
    captions = re.findall(r"</div><figcaption>(.*?)</figcaption>", page)
    assert len(captions) > 20
    assert all(text.endswith("Phantom data.") for text in captions)
    assert "phantom" not in (small / "report.html").read_text().lower().replace("data/phantom", "")


def test_a_mixed_study_names_its_phantoms_above_the_page_under_every_figure_and_in_its_files(small, tmp_path):
    shutil.copytree(small, tmp_path / "mixed")
    file = tmp_path / "mixed" / "provenance.json"
    first = json.loads((small / "provenance.json").read_text()) | {"phantom": True, "phantom_sites": ["centre-a"]}
    file.write_text(json.dumps(first))
    page = html.unescape(build_study_report(file.parent).read_text())
    assert "PHANTOM DATA among patients'." in page
    assert "The images of centre-a were made from equations" in page
    captions = re.findall(r"</div><figcaption>(.*?)</figcaption>", page)
    assert captions
    assert all(text.endswith("Partly phantom data.") for text in captions)
    assert "phantoms at centre-a, patients' elsewhere" in page
    drawn = [path.read_text() for path in (file.parent / "figures").glob("*.svg")]
    assert drawn
    assert all("PHANTOM DATA at centre-a" in text for text in drawn)


def test_arms_that_were_not_trained_are_not_spoken_of(small):
    main = (small / "report.html").read_text().partition('<section id="checklists">')[0].lower()
    assert "pooled</" not in main
    assert "ensemble" not in main
    assert "all data in one place 0" not in main


def test_every_number_of_a_table_cell_stands_in_the_summary(page, study_dir):
    known = set(read_tables(study_dir).summary["value"].dropna())
    shown = [float(value) for value in re.findall(r'data-value="([^"]+)"', page)]
    assert len(shown) > 100
    assert set(shown) <= known


def test_the_page_loads_nothing_and_runs_the_viewer_alone(page, small):
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL).group(1)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]+)"', page).group(1))
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"
    assert not re.search(r'(?:href|src)="(?!#|data:)', page)
    assert "<script" not in (small / "report.html").read_text()
    assert "script-src" not in (small / "report.html").read_text()


def test_every_link_leads_to_one_place_and_the_checklists_find_their_sections(page):
    places = re.findall(r'\bid="([^"]+)"', page)
    assert len(places) == len(set(places))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(places)
    assert set(places) >= ANCHORS


def test_every_figure_of_the_summary_is_listed_beside_its_seeds(page, study_dir):
    part = page[page.index('id="figures"') : page.index('id="model-card"')]
    summary = read_tables(study_dir).summary
    assert part.count("<tr") == len(summary) + 2  # two headings
    results = read_tables(study_dir).results.query(f"task == '{SEGMENTATION}' and arm == 'pooled' and centre == 'all'")
    first, second = (
        results.query(f"role == 'external' and metric == 'dice' and seed == {seed}")["value"].iloc[0] for seed in (0, 1)
    )
    assert f"<td>{first:.3f}<td>{second:.3f}<td>" in part


def test_opened_locks_and_hashes_stand_in_the_provenance(page):
    part = page[page.index('id="provenance"') :]
    assert "2026-01-02 02:00:00 UTC" in part
    assert f"{12:064x}" in part  # the third centre's data
    assert f"{3:064x}" in part  # the plan of the fold without the fourth
    assert part.count('class="hash nowrap"') == 80  # 4 folds, 2 seeds, 5 models, 2 tasks
