"""Results as files: the same rows in both, to the last digit; a damaged one names itself."""

import csv
import json

import pytest

from server.run_folder.results import Provenance, ResultRow, is_finished, read_results, replace_file, write_results
from shared.errors import RunError

WHO = {"task": "lesion-segmentation", "arm": "federated", "seed": 1, "centre": "centre-d", "role": "external"}
ROWS = [
    ResultRow(**WHO, metric=metric, unit=unit, value=value, ci_low=low, ci_high=high, n=n, model_hash="abc")
    for metric, unit, value, low, high, n in (
        ("dice", "1", 0.1 + 0.2, 1 / 3, 2 / 3, 5),
        ("hd95", "mm", None, None, None, 0),
        ("failures", "cases", 1.0, None, None, 5),
    )
]


def provenance(**changes):
    values = {
        "name": "quick-0", "created": "2026-01-02T03:04:05+00:00", "git": "0123abc", "versions": {"torch": "2.13.0"},
        "seeds": {"training": 1},
        "tasks": {"lesion-segmentation": {"best": "abc", "final": "abc", "best_round": 2, "rounds": 2}},
        "seconds": 1.5,
        "peak_memory_mb": 100.0, "phantom": True,
    }  # fmt: skip
    return Provenance(**(values | changes))


def test_csv_and_json_hold_the_same_rows_to_the_last_digit(tmp_path):
    rows = ROWS
    write_results(tmp_path, rows, provenance())
    found = read_results(tmp_path)
    assert found.rows == tuple(rows)
    assert found.provenance == provenance()
    with (tmp_path / "results.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == [
        "task", "arm", "seed", "centre", "role", "metric", "unit", "value", "ci_low", "ci_high", "n", "model_hash",
    ]  # fmt: skip
    again = [ResultRow(**{key: value or None for key, value in line.items()}) for line in lines]
    assert again == rows
    assert set(json.loads((tmp_path / "results.json").read_text())) == {"rows", "provenance"}


def test_a_run_in_which_a_task_failed_has_results_and_is_not_finished(tmp_path):
    assert not is_finished(tmp_path)
    write_results(tmp_path, ROWS, provenance(outcome="failed", unfinished={"receptor-status": "no site"}))
    assert not is_finished(tmp_path)
    assert read_results(tmp_path).provenance.unfinished == {"receptor-status": "no site"}
    for outcome in ("partial", "complete", None):
        write_results(tmp_path, ROWS, provenance(outcome=outcome))
        assert is_finished(tmp_path)


def test_files_that_cannot_be_read_name_themselves(tmp_path):
    with pytest.raises(RunError, match=r"results\.json cannot be read"):
        read_results(tmp_path)
    (tmp_path / "results.json").write_text('{"rows": [], "provenance": {}, "surplus": 1}')
    with pytest.raises(RunError, match=r"results\.json cannot be read"):
        read_results(tmp_path)


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "results.csv"
    replace_file(target, b"old")
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(RunError, match="no space left below"):
        replace_file(target, b"new")
    assert target.read_bytes() == b"old"
