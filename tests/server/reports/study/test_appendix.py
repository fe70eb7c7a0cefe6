"""The end of the page: every figure beside its seeds, and what made the study."""

from server.run_folder.study_tables import read_tables
from tests.server.reports.study.invented_study import SEGMENTATION


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
