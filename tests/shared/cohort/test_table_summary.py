"""What is told of a table: columns, support of classes, one patient under two names."""

import pytest

from shared.cohort.manifest import KNOWN, REQUIRED, read_manifest
from shared.cohort.table import read_table
from shared.cohort.table_summary import Unread, summarise, unread_columns


def summary(site, *lines, usable=None, identity=None):
    folder = site.table(*lines)
    rows = read_manifest(folder)
    table = read_table(folder / "cases.csv", known=KNOWN, required=REQUIRED)
    return summarise(table, rows, {row.row for row in rows} if usable is None else usable, identity or {})


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("tumor_subtype", "subtype"),
        ("er_status", "er"),
        ("ki67", "ki67_percent"),
        ("splitt", "split"),
        ("nottingham_grade", ""),
    ],
)
def test_an_unread_column_is_told_by_its_place_with_the_nearest_known_name(name, near):
    assert unread_columns(("patient_id", "side", name), ("patient_id", "side")) == (Unread(3, near),)


def test_values_are_counted_in_all_rows_in_usable_cases_and_by_split(site):
    lines = ["patient_id,side,er,subtype,split", "a,left,1,tnbc,train", "b,left,0,,train", "c,left,,luminal,test"]
    found = summary(site, *lines, usable={2, 4})
    assert found.patients == 3
    assert found.used == ("patient_id", "side", "er", "subtype", "split")
    counts = {(item.column, item.value): (item.rows, item.usable, dict(item.splits)) for item in found.support}
    assert counts["er", "positive"] == (1, 1, {"train": 1})
    assert counts["er", "negative"] == (1, 0, {})
    assert counts["er", "missing"] == (1, 1, {"test": 1})
    assert counts["subtype", "luminal"] == (1, 1, {"test": 1})
    assert counts["split", "train"] == (2, 1, {"train": 1})
    assert found.doubts == ()


def doubts(found):
    return [(item.kind, item.rows) for item in found.doubts]


@pytest.mark.parametrize(
    ("splits", "kinds"),
    [
        (("train", "test"), ["duplicate", "leak"]),
        (("", ""), ["duplicate", "leak"]),
        (("train", "train"), ["duplicate"]),
    ],
)
def test_a_patient_whose_id_lost_its_zeros_is_a_leak_between_splits(site, splits, kinds):
    rows = [f"0012345,left,{splits[0]}", "other,left,train", f"12345,right,{splits[1]}"]
    found = summary(site, "patient_id,side,split", *rows)
    assert doubts(found) == [(kind, (2, 4)) for kind in kinds]


def test_one_folder_or_one_patient_id_in_the_images_of_two_patients_is_a_duplicate(site):
    rows = ["a,left,train,x/1", "b,left,test,x/2", "c,left,train,x/1/", "d,left,train,x/4"]
    identity = {2: {"patient": "p"}, 3: {"patient": "q"}, 5: {"patient": "q"}}
    found = summary(site, "patient_id,side,split,path", *rows, identity=identity)
    assert doubts(found) == [("duplicate", (2, 4)), ("duplicate", (3, 5)), ("leak", (3, 5))]


def test_a_constant_in_place_of_patient_ids_says_nothing(site):
    identity = {row: {"patient": "ANON"} for row in range(2, 7)}
    found = summary(site, "patient_id,side", *(f"{name},left" for name in "abcde"), identity=identity)
    assert found.doubts == ()


def test_one_exam_in_two_rows_of_a_patient_is_a_duplicate_but_not_both_its_breasts(site):
    rows = ["a,1,left", "a,2,left", "a,1,right"]
    identity = {row: {"patient": "p", "exam": "e"} for row in (2, 3, 4)}
    found = summary(site, "patient_id,exam,side", *rows, identity=identity)
    assert doubts(found) == [("duplicate", (2, 3))]
