"""The training sites' own cases: every declared metric, test before validation, the chosen model alone."""

from server.reports.sections.training_sites import training_sites
from tests.server.reports.invented_classifiers import RECEPTORS, finished, internal, receptors


def test_sites_stand_with_the_rows_they_sent_and_their_total():
    rows = internal(RECEPTORS, receptors(seed=4))
    other = [row.model_copy(update={"model_hash": "f" * 64, "value": 0.123}) for row in rows]
    test, validation = training_sites(finished(None, [*other, *rows], RECEPTORS, centre=None))
    assert test["caption"].startswith("Test cases, never used")
    assert validation["caption"] == "Validation cases, which chose the round and the thresholds: optimistic."
    assert [line["name"] for line in test["table"]["lines"]] == ["centre-a", "centre-b", "centre-c", "all"]
    assert [column.metric for column in test["table"]["columns"]] == [
        "auc_er", "auc_pr", "auc_her2", "mae_ki67", "bias_ki67",
    ]  # fmt: skip
    stored = {(row.centre, row.metric): row for row in rows if row.role == "test"}
    assert test["table"]["lines"][3]["rows"][3] == stored["all", "mae_ki67"]
    assert test["table"]["lines"][3]["n"] == 60


def test_a_role_that_no_site_answered_has_no_table():
    rows = [row for row in internal() if row.role == "validation"]
    assert len(training_sites(finished(None, rows, centre=None))) == 1
