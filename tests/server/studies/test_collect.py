"""What a study gathers of its cases: bands and labels, never an identifier, and every case counted once."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from server.run_folder.journal import RunFolder
from server.studies import collect
from server.studies.design import HELD_OUT, Design, fold_folder
from shared.cohort.labels import CaseLabels, Label
from shared.config.run_config import parse_config

CONFIG = parse_config(
    {
        "name": "t",
        "data": {"root": "d", "sites": ["a", "b"], "external": "x"},
        "study": {"held_out": ["x", "a"]},
    },
    "t",
)


def located(key, **row):
    known = {"manufacturer": None, "field_strength_t": None, "density": None, "age": None, "labels": CaseLabels()} | row
    return SimpleNamespace(key=key, row=SimpleNamespace(**known))


@pytest.fixture
def cohort(tmp_path, monkeypatch):
    cases = {
        "a": [located("a-p1-e-L", age=49.9, density="b", labels=CaseLabels(er=True, ki67_percent=12.0))],
        "b": [located("b-p1-e-R", age=50.0, manufacturer="GE", field_strength_t=3.0)],
        "x": [located("x-p1-e-L", age=70.0, labels=CaseLabels(er=False, subtype="luminal_b"))],
    }
    monkeypatch.setattr(collect, "run_cohort", lambda path, _: SimpleNamespace(cases=cases[path.name]))
    monkeypatch.setenv("FEDBREAST_ROOT", str(tmp_path))
    (tmp_path / "predictions").mkdir()
    table = pd.DataFrame({"case": ["a-p1-e-L", "x-p1-e-L"], "reference_volume_ml": [1.5, 2.5]})
    table.to_parquet(tmp_path / "predictions" / "lesion-segmentation.parquet")
    return collect._cohort(tmp_path, Design(CONFIG))


def test_a_case_has_its_centre_its_bands_and_the_size_of_its_outline(cohort):
    assert cohort[["case", "patient", "centre", "age_band"]].to_numpy().tolist() == [
        ["a-p1-e-L", "a-p1", "a", "<50"], ["b-p1-e-R", "b-p1", "b", "50-69"], ["x-p1-e-L", "x-p1", "x", ">=70"],
    ]  # fmt: skip
    assert cohort["reference_volume_ml"].tolist() == pytest.approx([1.5, np.nan, 2.5], nan_ok=True)
    assert cohort["manufacturer"].tolist() == ["", "GE", ""]
    assert "age" not in cohort


def test_labels_are_numbers_or_classes_and_absent_where_they_are_missing(cohort):
    assert cohort["er"].tolist() == pytest.approx([1.0, np.nan, 0.0], nan_ok=True)
    assert cohort["ki67_percent"].tolist() == pytest.approx([12.0, np.nan, np.nan], nan_ok=True)
    assert cohort["subtype"].tolist() == ["", "", "luminal_b"]


def test_a_label_that_a_task_declares_is_read_like_the_others():
    labels = CaseLabels(other={"necrosis": 1.0})
    assert collect._value(Label("necrosis", "Necrosis"), labels) == 1.0
    assert collect._value(Label("necrosis", "Necrosis"), CaseLabels()) is None
    assert collect._value(Label("grade", "Grade", "classes", ("1", "2")), CaseLabels()) == ""


def test_a_centre_is_counted_as_it_trains_and_as_it_is_held_out(tmp_path):
    trained = {"included": {"train": 6, "validation": 1, "test": 1}, "excluded": {"empty_mask": 2}}
    RunFolder(fold_folder(tmp_path, "x")).write_flow({"a": trained, "b": trained})
    RunFolder(fold_folder(tmp_path, "a")).write_flow({"b": trained})
    for fold, number in (("x", 7), ("a", 8)):
        left_out = {"evaluated": number, "excluded": {"missing_phase": 1}}
        (fold_folder(tmp_path, fold) / HELD_OUT).write_text(json.dumps(left_out))
    flow = collect._flow(tmp_path, Design(CONFIG))
    assert flow["a"] == {
        "included": 8, "excluded": {"empty_mask": 2}, "held_out": 8, "splits": {"train": 6, "validation": 1, "test": 1},
    }  # fmt: skip
    assert flow["x"] == {"included": 7, "excluded": {"missing_phase": 1}, "splits": {}, "held_out": 7}
    assert "held_out" not in flow["b"]
