"""Rows, files and summaries of results against hand counts and direct calls of the metrics."""

import csv
import json
import math
from functools import reduce
from operator import add

import numpy as np
import pandas as pd
import pytest

from server.evaluation.metric_rows import external_rows, internal_rows, log_scale
from server.run_folder.predictions import prediction_table, read_predictions, write_predictions
from server.run_folder.results import Provenance, ResultRow, read_results, replace_file, write_results
from shared.config.sections import EvaluationConfig
from shared.errors import RunError
from shared.metrics.agreement import bland_altman, icc
from shared.metrics.intervals import wilson
from shared.metrics.overlap import CaseMetrics
from shared.metrics.sums import SegmentationSums

SETTINGS = EvaluationConfig(bootstrap=500)
WHO = {"task": "lesion-segmentation", "arm": "federated", "seed": 1, "centre": "centre-d", "model_hash": "abc"}


def metrics(dice, volume, reference, **changes):
    values = {
        "dice": dice, "nsd": dice, "sensitivity": dice, "ppv": dice if volume else None,
        "hd95_mm": 10 * (1 - dice) if volume else None, "assd_mm": 2.0 if volume else None,
        "centroid_distance_mm": 1.0 if volume else None, "volume_ml": volume, "reference_volume_ml": reference,
        "voxels_tp": 10, "voxels_fp": 2, "voxels_fn": 3,
        "lesions_tp": int(dice > 0), "lesions_fp": 0, "lesions_fn": int(dice == 0),
    }  # fmt: skip
    return CaseMetrics(**(values | changes))


CASES = {
    "centre-d-aaaaaaaaaa-000001-L": metrics(0.9, 4.0, 4.1),
    "centre-d-aaaaaaaaaa-000001-R": metrics(0.8, 2.0, 1.5, lesions_fp=2),
    "centre-d-bbbbbbbbbb-000001-L": metrics(0.7, 9.0, 8.0),
    "centre-d-cccccccccc-000001-L": metrics(0.0, 0.0, 3.0),  # nothing predicted: a failure
    "centre-d-dddddddddd-000001-R": metrics(0.6, 1.0, 2.0),
}


def table(cases=CASES, **changes):
    return prediction_table(
        cases.items(), **({"centre": "centre-d", "arm": "federated", "model_hash": "abc"} | changes)
    )


def by_metric(rows):
    return {row.metric: row for row in rows}


def provenance(**changes):
    values = {
        "name": "quick-0", "created": "2026-01-02T03:04:05+00:00", "git": "0123abc", "versions": {"torch": "2.13.0"},
        "seeds": {"training": 1},
        "tasks": {"lesion-segmentation": {"best": "abc", "final": "abc", "best_round": 2, "rounds": 2}},
        "seconds": 1.5,
        "peak_memory_mb": 100.0, "phantom": True,
    }  # fmt: skip
    return Provenance(**(values | changes))


def test_means_rest_on_the_cases_that_have_the_figure():
    rows = by_metric(external_rows(table(), SETTINGS, **WHO))
    assert rows["dice"].value == pytest.approx((0.9 + 0.8 + 0.7 + 0.0 + 0.6) / 5)
    assert rows["hd95"].value == pytest.approx((1 + 2 + 3 + 4) / 4)
    assert (rows["dice"].n, rows["hd95"].n, rows["ppv"].n, rows["sensitivity"].n) == (5, 4, 4, 5)
    assert (rows["hd95"].unit, rows["dice"].unit, rows["volume_bias"].unit) == ("mm", "1", "ml")


def test_lesions_are_pooled_and_failures_counted():
    rows = by_metric(external_rows(table(), SETTINGS, **WHO))
    assert rows["lesion_f1"].value == pytest.approx(2 * 4 / (2 * 4 + 2 + 1))
    assert (rows["failures"].value, rows["no_overlap"].value, rows["failures"].n) == (1.0, 1.0, 5)
    assert (rows["failure_share"].ci_low, rows["failure_share"].ci_high) == pytest.approx(wilson(1, 5))


def test_volumes_agree_with_the_metrics_called_directly():
    rows = by_metric(external_rows(table(), SETTINGS, **WHO))
    volumes = np.array([[item.volume_ml, item.reference_volume_ml] for item in CASES.values()])
    limits = bland_altman(*volumes.T)
    assert rows["volume_icc_a1"].value == pytest.approx(icc(volumes).a1)
    assert rows["volume_bias"].value == pytest.approx(limits.bias)
    assert (rows["volume_limit_low"].value, rows["volume_limit_high"].value) == pytest.approx((limits.low, limits.high))


def test_every_interval_holds_its_value_and_four_patients_are_the_units():
    rows = external_rows(table(), SETTINGS, **WHO)
    bounded = [row for row in rows if row.ci_low is not None]
    assert len(bounded) >= 12
    assert all(row.ci_low <= row.value <= row.ci_high for row in bounded)
    # Both breasts of one patient are drawn together: other intervals than over five patients.
    alone = {f"centre-d-{index:010d}-000001-L": item for index, item in enumerate(CASES.values())}
    other = by_metric(external_rows(table(alone), SETTINGS, **WHO))["dice"]
    together = by_metric(rows)["dice"]
    assert other.value == together.value
    assert (other.ci_low, other.ci_high) != (together.ci_low, together.ci_high)


def test_ratios_stand_beside_differences_when_the_spread_grows():
    rng = np.random.default_rng(0)
    size = rng.lognormal(1, 1, 40)
    ratio = np.exp(rng.normal(0.1, 0.3, 40))
    grown = {
        f"centre-d-{i:010d}-000001-L": metrics(0.8, v, r)
        for i, (v, r) in enumerate(zip(size * ratio, size, strict=True))
    }
    assert log_scale(table(grown))
    rows = by_metric(external_rows(table(grown), SETTINGS, **WHO))
    expected = bland_altman(size * ratio, size, log=True)
    assert rows["volume_ratio_bias"].value == pytest.approx(expected.bias)
    assert rows["volume_ratio_limit_low"].value == pytest.approx(expected.low)
    assert not log_scale(table())
    assert "volume_ratio_bias" not in by_metric(external_rows(table(), SETTINGS, **WHO))


def test_only_the_named_model_is_summarised():
    both = pd.concat([table(), table({"centre-d-x-1-L": metrics(0.1, 1.0, 1.0)}, model_hash="other")])
    assert external_rows(both, SETTINGS, **WHO) == external_rows(table(), SETTINGS, **WHO)
    with pytest.raises(RunError, match="no predictions of arm 'pooled'"):
        external_rows(both, SETTINGS, **(WHO | {"arm": "pooled"}))


def test_a_case_without_any_interval_has_a_value_and_no_bounds():
    rows = by_metric(external_rows(table(dict(list(CASES.items())[:1])), SETTINGS, **WHO))
    assert (rows["dice"].value, rows["dice"].ci_low, rows["dice"].n) == (pytest.approx(0.9), None, 1)
    assert rows["volume_icc_a1"].value is None


def test_numbers_are_identical_when_regenerated_from_the_stored_predictions(tmp_path):
    first = external_rows(table(), SETTINGS, **WHO)  # scenario 73
    write_predictions(tmp_path, "lesion-segmentation", table())
    pd.testing.assert_frame_equal(read_predictions(tmp_path, "lesion-segmentation"), table())
    assert external_rows(read_predictions(tmp_path, "lesion-segmentation"), SETTINGS, **WHO) == first


def test_only_failures_still_make_a_table_and_no_nan(tmp_path):
    lost = {key: metrics(0.0, 0.0, 2.0) for key in CASES}
    write_predictions(tmp_path, "lesion-segmentation", table(lost))
    rows = by_metric(external_rows(read_predictions(tmp_path, "lesion-segmentation"), SETTINGS, **WHO))
    assert (rows["dice"].value, rows["hd95"].value, rows["hd95"].n, rows["failures"].value) == (0.0, None, 0, 5.0)
    assert all(row.value is None or math.isfinite(row.value) for row in rows.values())


def test_internal_rows_come_from_sums_a_site_each_and_together():
    cases = list(CASES.values())
    sums = {
        "centre-a": reduce(add, map(SegmentationSums.of, cases[:2])),
        "centre-b": reduce(add, map(SegmentationSums.of, cases[2:])),
    }
    who = {key: WHO[key] for key in ("task", "arm", "seed", "model_hash")}
    rows = {(row.centre, row.metric): row for row in internal_rows(sums, SETTINGS, role="test", **who)}
    assert rows["centre-a", "dice"].value == pytest.approx(0.85)
    assert rows["all", "dice"].value == pytest.approx(3.0 / 5)
    assert (rows["all", "dice"].n, rows["all", "hd95"].n, rows["all", "failures"].value) == (5, 4, 1.0)
    assert 0.0 <= rows["centre-a", "dice"].ci_low <= rows["centre-a", "dice"].ci_high == 1.0  # t would pass 1
    assert rows["centre-a", "hd95"].ci_low == 0.0  # t would pass 0
    assert rows["centre-a", "volume_bias"].ci_low < 0
    alone = internal_rows({"centre-a": sums["centre-a"]}, SETTINGS, role="test", **who)
    assert {row.centre for row in alone} == {"centre-a"}


def test_csv_and_json_hold_the_same_rows_to_the_last_digit(tmp_path):
    rows = external_rows(table(), SETTINGS, **WHO)
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


def test_files_that_cannot_be_read_name_themselves(tmp_path):
    with pytest.raises(RunError, match=r"results\.json cannot be read"):
        read_results(tmp_path)
    (tmp_path / "results.json").write_text('{"rows": [], "provenance": {}, "surplus": 1}')
    with pytest.raises(RunError, match=r"results\.json cannot be read"):
        read_results(tmp_path)
    (tmp_path / "predictions").mkdir()
    (tmp_path / "predictions" / "lesion-segmentation.parquet").write_bytes(b"not parquet")
    with pytest.raises(RunError, match=r"lesion-segmentation\.parquet cannot be read"):
        read_predictions(tmp_path, "lesion-segmentation")


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "results.csv"
    replace_file(target, b"old")
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(RunError, match="no space left below"):
        replace_file(target, b"new")
    assert target.read_bytes() == b"old"
