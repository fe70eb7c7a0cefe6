"""What a report reads of a run: one entry for each task, and a damaged file is named."""

import json

import pytest

from server.run_folder.finished_run import read_finished_run, read_flow
from shared.errors import RunError
from tests.server.reports.conftest import BEST, SITES, TASK, make_run


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path)


def test_a_run_is_read_with_its_rounds_rows_and_sites_in_order(run):
    (found,) = read_finished_run(run)
    assert (found.task.name, found.chosen.best, found.phantom, found.at_node) == (TASK, BEST, True, False)
    assert [item.round for item in found.rounds] == [1, 2, 3, 4, 5, 6]
    assert list(found.flow) == [*SITES, "centre-d"]
    assert {row.role for row in found.external_rows} == {"external"}
    assert set(found.predictions["centre"]) == {"centre-d"}


def test_a_centre_at_its_own_node_has_sums_and_no_table(run):
    opened = {"centre": "centre-d", "model_hashes": [BEST], "at_node": True, "at": "2026-01-02T03:04:05Z"}
    (run / "external-opened.json").write_text(json.dumps(opened))
    (found,) = read_finished_run(run)
    assert (found.at_node, found.predictions) == (True, None)


def test_of_a_run_in_which_something_failed_there_are_the_tasks_before_it_also_without_an_external_table(run):
    config = run / "config.toml"
    config.write_text(f'tasks = ["{TASK}", "receptor-status"]\n' + config.read_text())
    stored = json.loads((run / "results.json").read_text())
    stored["provenance"] |= {"outcome": "failed", "unfinished": {"receptor-status": "no site"}}
    (run / "results.json").write_text(json.dumps(stored))
    (found,) = read_finished_run(run)
    assert found.task.name == TASK
    assert found.predictions is not None
    stored["rows"] = [row for row in stored["rows"] if row["role"] != "external"]
    (run / "results.json").write_text(json.dumps(stored))
    (found,) = read_finished_run(run)
    assert found.predictions is None


@pytest.mark.parametrize("content", ["{", '{"a": {"role": "none", "included": {}}}'])
def test_a_damaged_or_missing_file_of_cases_is_named(run, content):
    (run / "cases.json").write_text(content)
    with pytest.raises(RunError, match=r"quick-0/cases\.json cannot be read"):
        read_flow(run)
    (run / "cases.json").unlink()
    with pytest.raises(RunError, match=r"quick-0/cases\.json cannot be read"):
        read_finished_run(run)
