"""The study in docs: tables and page come from its stored predictions, to the byte. Slow: half a minute."""

import shutil
from pathlib import Path

import pytest

from server.studies.run_study import make_report

READY = Path(__file__).resolve().parents[3] / "docs" / "example-study"
MADE = ("summary.csv", "comparisons.csv", "meta_analysis.csv", "subgroups.csv", "report.html", "MODEL_CARD.md")


@pytest.mark.slow
def test_the_ready_study_is_made_again_to_the_byte(tmp_path):
    folder = tmp_path / READY.name
    shutil.copytree(READY, folder, ignore=shutil.ignore_patterns(*MADE, "figures", "results.*"))
    make_report(folder)
    for name in MADE:
        assert (folder / name).read_bytes() == (READY / name).read_bytes(), name


def test_the_ready_study_says_that_it_is_a_phantoms():
    page = (READY / "report.html").read_text(encoding="utf-8")
    assert "PHANTOM DATA, not patients" in page
    assert (READY / "MODEL_CARD.md").read_text(encoding="utf-8").startswith("> **PHANTOM DATA")
