"""Every reason has an explanation and a remedy, and stands in the data manager's page."""

from pathlib import Path

from shared.errors import EXCLUSION_REASONS
from shared.site_check.reasons import REASONS, explanation, remedy

ROOT = Path(__file__).resolve().parents[3]


def test_each_reason_is_explained_with_a_remedy_and_none_is_explained_that_is_none():
    assert set(REASONS) == set(EXCLUSION_REASONS)
    assert all(explanation(reason).endswith(".") and remedy(reason).endswith(".") for reason in REASONS)


def test_the_data_managers_page_names_each_reason():
    text = (ROOT / "docs" / "data-manager.md").read_text()
    assert [reason for reason in REASONS if f"`{reason}`" not in text] == []
