"""Named label rules against the consensus tables, written out by hand."""

import pytest

from shared.cohort.labels import (
    ER,
    KI67,
    SUBTYPE,
    CaseLabels,
    Label,
    contradicts,
    her2_status,
    subtype_of,
)


@pytest.mark.parametrize(
    ("er", "pr", "her2", "ki67", "expected"),
    [
        (True, True, False, 10.0, "luminal_a"),
        (True, True, False, 19.9, "luminal_a"),
        (True, True, False, 20.0, "luminal_b"),
        (True, False, False, 10.0, "luminal_b"),
        (True, True, True, 5.0, "luminal_b"),
        (False, False, True, 50.0, "her2_enriched"),
        (False, False, False, 50.0, "triple_negative"),
        (True, True, False, None, None),
        (True, None, False, 30.0, "luminal_b"),
        (True, None, False, 10.0, None),
        (True, True, None, 10.0, None),
        (None, None, True, 10.0, None),
        (None, True, True, None, "luminal_b"),
        (False, None, False, 10.0, None),
    ],
)
def test_st_gallen_2023(er, pr, her2, ki67, expected):
    assert subtype_of(CaseLabels(er, pr, her2, ki67), "st-gallen-2023") == expected


@pytest.mark.parametrize(
    ("er", "pr", "her2", "expected"),
    [
        (True, False, False, "hr_positive_her2_negative"),
        (False, True, True, "hr_positive_her2_positive"),
        (False, False, True, "hr_negative_her2_positive"),
        (False, False, False, "triple_negative"),
        (False, None, False, None),
    ],
)
def test_hr_her2(er, pr, her2, expected):
    assert subtype_of(CaseLabels(er, pr, her2, None), "hr-her2") == expected


@pytest.mark.parametrize(
    ("score", "fish", "status", "contradiction"),
    [
        ("0", None, False, False),
        ("1+", False, False, False),
        ("2+", None, None, False),
        ("2+", True, True, False),
        ("2+", False, False, False),
        ("3+", None, True, False),
        ("3+", False, None, True),
        ("1+", True, None, True),
        (None, True, True, False),
        (None, None, None, False),
    ],
)
def test_her2_by_asco_cap(score, fish, status, contradiction):
    assert her2_status(score, fish) == (status, contradiction)


def test_scenario_34_only_what_every_reading_excludes_contradicts():
    hormone_positive = CaseLabels(er=True, pr=True, her2=False, ki67_percent=10.0)
    assert contradicts("triple_negative", hormone_positive)
    assert contradicts("her2_enriched", hormone_positive)
    assert contradicts("luminal_b", hormone_positive)
    assert not contradicts("luminal_a", hormone_positive)
    assert not contradicts("luminal", hormone_positive)
    assert contradicts("luminal", CaseLabels(er=False, pr=False, her2=None, ki67_percent=None))
    assert contradicts("luminal_a", CaseLabels(er=True, pr=True, her2=True, ki67_percent=None))
    # MAMA-MIA's luminal B is hormone and HER2 positive, its HER2-enriched may be hormone positive.
    both = CaseLabels(er=True, pr=None, her2=True, ki67_percent=None)
    assert not contradicts("luminal_b", both)
    assert not contradicts("her2_enriched", both)
    unknown = CaseLabels(er=None, pr=None, her2=None, ki67_percent=None)
    assert not any(
        contradicts(name, unknown) for name in ("luminal_a", "luminal_b", "her2_enriched", "triple_negative")
    )


def test_whatever_the_rule_gives_does_not_contradict_itself():
    for er in (True, False, None):
        for pr in (True, False, None):
            for her2 in (True, False, None):
                for ki67 in (None, 5.0, 40.0):
                    receptors = CaseLabels(er, pr, her2, ki67)
                    subtype = subtype_of(receptors, "st-gallen-2023")
                    assert subtype is None or not contradicts(subtype, receptors)


def test_a_label_by_name_is_a_column_or_one_that_a_task_declares():
    labels = CaseLabels(er=True, her2=False, ki67_percent=12.5, subtype="luminal_a", other={"grade3": 1.0})
    assert [labels.value(name) for name in ("er", "her2", "ki67_percent", "grade3")] == [1.0, 0.0, 12.5, 1.0]
    assert labels.value("pr") is labels.value("malignant") is labels.value("size_mm") is None
    # What is no label is none, whatever the fields are called.
    assert labels.value("tissues") is labels.value("other") is labels.value("subtype") is None


@pytest.mark.parametrize(
    ("label", "names"),
    [
        (ER, ("er/positive", "er/negative", "er/missing")),
        (KI67, ("ki67_percent/known", "ki67_percent/missing")),
        (Label("phenotype", "", "classes", ("a", "b")), ("phenotype/a", "phenotype/b", "phenotype/missing")),
    ],
)
def test_names_under_which_cases_are_counted(label, names):
    assert label.counted == names


def test_a_case_is_counted_under_one_of_its_labels_names():
    full = CaseLabels(er=False, ki67_percent=0.0, subtype="luminal_b", other={"grade3": 1.0})
    assert ER.counted_as(full) == "er/negative"
    assert KI67.counted_as(full) == "ki67_percent/known"
    assert SUBTYPE.counted_as(full) == "subtype/luminal_b"
    assert Label("grade3", "Grade 3").counted_as(full) == "grade3/positive"
    for label in (ER, KI67, SUBTYPE, Label("grade3", "Grade 3")):
        assert label.counted_as(CaseLabels()) == f"{label.name}/missing"
        assert {label.counted_as(full), label.counted_as(CaseLabels())} <= set(label.counted)
    # A subtype of another rule is none of the four.
    assert SUBTYPE.counted_as(CaseLabels(subtype="luminal")) == "subtype/missing"
