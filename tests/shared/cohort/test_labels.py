"""Named label rules against the consensus tables, written out by hand."""

import pytest

from shared.cohort.labels import Receptors, contradicts, her2_status, subtype_of


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
    assert subtype_of(Receptors(er, pr, her2, ki67), "st-gallen-2023") == expected


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
    assert subtype_of(Receptors(er, pr, her2, None), "hr-her2") == expected


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
    hormone_positive = Receptors(er=True, pr=True, her2=False, ki67_percent=10.0)
    assert contradicts("triple_negative", hormone_positive)
    assert contradicts("her2_enriched", hormone_positive)
    assert contradicts("luminal_b", hormone_positive)
    assert not contradicts("luminal_a", hormone_positive)
    assert not contradicts("luminal", hormone_positive)
    assert contradicts("luminal", Receptors(er=False, pr=False, her2=None, ki67_percent=None))
    assert contradicts("luminal_a", Receptors(er=True, pr=True, her2=True, ki67_percent=None))
    # MAMA-MIA's luminal B is hormone and HER2 positive, its HER2-enriched may be hormone positive.
    both = Receptors(er=True, pr=None, her2=True, ki67_percent=None)
    assert not contradicts("luminal_b", both)
    assert not contradicts("her2_enriched", both)
    unknown = Receptors(er=None, pr=None, her2=None, ki67_percent=None)
    assert not any(
        contradicts(name, unknown) for name in ("luminal_a", "luminal_b", "her2_enriched", "triple_negative")
    )


def test_whatever_the_rule_gives_does_not_contradict_itself():
    for er in (True, False, None):
        for pr in (True, False, None):
            for her2 in (True, False, None):
                for ki67 in (None, 5.0, 40.0):
                    receptors = Receptors(er, pr, her2, ki67)
                    subtype = subtype_of(receptors, "st-gallen-2023")
                    assert subtype is None or not contradicts(subtype, receptors)
