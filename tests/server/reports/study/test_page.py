import base64
import hashlib
import html
import re

import pandas as pd
import pytest

from server.reports.study import headline
from server.reports.study.checklists import ANCHORS
from server.reports.study.page import build_study_report
from server.reports.study.study_reader import read_study
from server.run_folder.study_tables import read_tables
from shared.errors import RunError
from tests.server.reports.study.invented_study import CLASSIFIER, SEGMENTATION, make_study


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


def test_arms_that_were_not_trained_are_not_spoken_of(small):
    main = (small / "report.html").read_text().partition('<section id="checklists">')[0].lower()
    assert "pooled</" not in main
    assert "ensemble" not in main
    assert "all data in one place 0" not in main


def test_the_answer_names_both_comparisons_with_the_tables_own_numbers(page, study_dir):
    tables = read_tables(study_dir)
    lead = html.unescape(re.findall(r'<p class="lead">(.*?)</p>', page)[0])
    own = tables.summary.query(f"task == '{SEGMENTATION}' and arm == 'federated' and centre == 'all'").iloc[0]
    assert f"Dice {own['value']:.3f}" in lead
    assert "Yes: at 4 centres held out in turn (80 phantom cases of 80 patients, 2 seeds)" in lead
    for arm in ("local", "pooled"):
        line = tables.comparisons.query(
            f"task == '{SEGMENTATION}' and arm == '{arm}' and centre == 'all' and metric == 'dice'"
        ).iloc[0]
        numbers = [f"{line[name]:.3f}".replace("-", "\u2212") for name in ("difference", "ci_low", "ci_high")]
        assert "difference {} (95% interval {} to {}, Holm p 0.012)".format(*numbers) in lead


@pytest.mark.parametrize(
    ("low", "high", "p", "words"),
    [(0.1, 0.2, 0.01, "Yes:"), (-0.2, -0.1, 0.01, "No, it was worse:"), (-0.1, 0.2, 0.01, "Not shown:"),
     (0.1, 0.2, 0.2, "Not shown:")],
)  # fmt: skip
def test_the_verdict_needs_an_interval_on_one_side_and_a_small_corrected_p(study_dir, low, high, p, words):
    study = read_study(study_dir)
    table = study.tables.comparisons
    at = (table["task"] == SEGMENTATION) & (table["centre"] == "all") & (table["arm"] == "local")
    at &= table["metric"] == "dice"
    table.loc[at, ["ci_low", "ci_high", "p_holm"]] = low, high, p
    assert headline.verdict(study, SEGMENTATION) == words


def test_few_cases_give_no_verdict(study_dir):
    study = read_study(study_dir)
    table = study.tables.summary
    table.loc[(table["arm"] == "federated") & (table["centre"] == "all"), "ranked"] = False
    assert headline.verdict(study, SEGMENTATION) == "Too few cases to say:"


def test_every_number_of_a_table_cell_stands_in_the_summary(page, study_dir):
    known = set(read_tables(study_dir).summary["value"].dropna())
    shown = [float(value) for value in re.findall(r'data-value="([^"]+)"', page)]
    assert len(shown) > 100
    assert set(shown) <= known


def test_every_figure_of_the_summary_is_listed_beside_its_seeds(page, study_dir):
    part = page[page.index('id="figures"') : page.index('id="model-card"')]
    summary = read_tables(study_dir).summary
    assert part.count("<tr") == len(summary) + 2  # two headings
    results = read_tables(study_dir).results.query(f"task == '{SEGMENTATION}' and arm == 'pooled' and centre == 'all'")
    first, second = (
        results.query(f"role == 'external' and metric == 'dice' and seed == {seed}")["value"].iloc[0] for seed in (0, 1)
    )
    assert f'<td class="num">{first:.3f}</td><td class="num">{second:.3f}</td>' in part


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
    assert set(ANCHORS) <= set(places)


def test_opened_locks_and_hashes_stand_in_the_provenance(page):
    part = page[page.index('id="provenance"') :]
    assert "2026-01-02 02:00:00 UTC" in part
    assert f"{12:064x}" in part  # the third centre's data
    assert f"{3:064x}" in part  # the plan of the fold without the fourth
    assert part.count('class="hash nowrap"') == 80  # 4 folds, 2 seeds, 5 models, 2 tasks


def test_a_missing_or_short_file_is_named(tmp_path):
    folder = make_study(tmp_path / "study", (CLASSIFIER,))
    curves = pd.read_parquet(folder / "curves.parquet")
    curves.drop(columns="score").to_parquet(folder / "curves.parquet")
    with pytest.raises(RunError, match=r"curves\.parquet lacks score"):
        build_study_report(folder)
    curves.to_parquet(folder / "curves.parquet")
    (folder / "opened.json").write_text('{"centre-a": {}}')
    with pytest.raises(RunError, match=r"opened\.json cannot be read"):
        build_study_report(folder)
    (folder / "predictions" / f"{CLASSIFIER}.parquet").unlink()
    with pytest.raises(RunError, match="did the study finish"):
        build_study_report(folder)
