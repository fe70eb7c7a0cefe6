"""Splits by patient: scenario 36, order and counts."""

import random
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.cohort.labels import ER, HER2, CaseLabels
from shared.cohort.splits import assign_splits, patient_classes

SHARE = st.floats(0.0, 0.45)


@given(st.lists(st.text(max_size=4), max_size=40), st.integers(0, 9), SHARE, SHARE, st.randoms(use_true_random=False))
def test_the_same_whatever_the_order_and_repetition_of_rows(patients, seed, validation, test, rng):
    first = assign_splits(patients, seed=seed, validation=validation, test=test)
    again = [*patients, *patients[: len(patients) // 2]]
    rng.shuffle(again)
    assert assign_splits(again, seed=seed, validation=validation, test=test) == first
    assert set(first) == set(patients)


@given(st.integers(3, 60), st.integers(0, 9), SHARE, SHARE)
def test_every_wanted_split_gets_a_patient_and_about_its_share(count, seed, validation, test):
    splits = list(assign_splits([f"P{n}" for n in range(count)], seed=seed, validation=validation, test=test).values())
    assert splits.count("train") >= 1
    for name, share in (("validation", validation), ("test", test)):
        assert (splits.count(name) > 0) == (share > 0)
        assert abs(splits.count(name) - share * count) <= 1.0


def test_the_default_shares_of_24_patients():
    splits = list(assign_splits([f"P{n}" for n in range(24)], seed=0, validation=0.17, test=0.17).values())
    assert (splits.count("train"), splits.count("validation"), splits.count("test")) == (16, 4, 4)


def test_two_patients_leave_one_to_train_on():
    assert "train" in assign_splits(["a", "b"], seed=0, validation=0.4, test=0.4).values()
    assert assign_splits(["a"], seed=0, validation=0.4, test=0.4) == {"a": "train"}
    assert assign_splits([], seed=0, validation=0.4, test=0.4) == {}


def test_another_seed_gives_another_split():
    patients = [f"P{n}" for n in range(40)]
    splits = [assign_splits(patients, seed=seed, validation=0.2, test=0.2) for seed in range(3)]
    assert splits[0] != splits[1] != splits[2]


def test_a_golden_split_stays_the_same_on_every_platform():
    # Order of `printf 'split|7|a' | sha256sum`, and so on: f, e, c, b, d, a.
    splits = assign_splits(["a", "b", "c", "d", "e", "f"], seed=7, validation=0.2, test=0.2)
    assert splits == {"f": "test", "e": "validation", **dict.fromkeys("cbda", "train")}


@pytest.mark.parametrize(("validation", "test"), [(0.5, 0.5), (-0.1, 0.2), (1.0, 0.0)])
def test_impossible_shares_are_refused(validation, test):
    with pytest.raises(ValueError, match="leave something to train on"):
        assign_splits(["a"], seed=0, validation=validation, test=test)


def test_scenario_36_two_breasts_and_two_exams_of_a_patient_fall_on_one_side():
    rows = [patient for patient in "abcdefghij" for _ in range(4)]
    random.Random(3).shuffle(rows)
    splits = assign_splits(rows, seed=1, validation=0.3, test=0.3)
    assert splits.keys() == set(rows)
    assert sorted(splits.values()) == ["test"] * 3 + ["train"] * 4 + ["validation"] * 3


@given(st.integers(4, 60), st.integers(0, 9), st.integers(1, 4), SHARE, SHARE)
def test_each_split_has_its_share_of_each_class_and_as_many_patients_as_without(count, seed, kinds, validation, test):
    patients = [f"P{number}" for number in range(count)]
    classes = {patient: str(number % (number % kinds + 1)) for number, patient in enumerate(patients)}
    shares = {"validation": validation, "test": test}
    splits = assign_splits(patients, seed=seed, **shares, classes=classes)
    plain = assign_splits(patients, seed=seed, **shares)
    assert sorted(splits.values()) == sorted(plain.values())
    for name in ("train", "validation", "test"):
        part = list(splits.values()).count(name) / count
        for own in set(classes.values()):
            members = [patient for patient in patients if classes[patient] == own]
            assert abs(sum(splits[patient] == name for patient in members) - part * len(members)) <= 2.0


def test_a_rare_class_is_spread_where_chance_would_not():
    patients = [f"P{number:02d}" for number in range(30)]
    rare = {patient: "rare" if number < 6 else "common" for number, patient in enumerate(patients)}

    def spread(seed, classes):
        splits = assign_splits(patients, seed=seed, validation=1 / 3, test=1 / 3, classes=classes)
        return {name: sum(splits[patient] == name for patient in patients[:6]) for name in set(splits.values())}

    assert all(max(spread(seed, rare).values()) - min(spread(seed, rare).values()) <= 1 for seed in range(20))
    assert any(max(spread(seed, None).values()) >= 4 for seed in range(20))


def test_one_class_for_all_draws_as_without():
    patients = [f"P{number}" for number in range(17)]
    plain = assign_splits(patients, seed=2, validation=0.2, test=0.3)
    assert assign_splits(patients, seed=2, validation=0.2, test=0.3, classes=dict.fromkeys(patients, "a")) == plain


def test_a_patients_class_is_of_all_cases_and_of_the_labels_that_are_asked_for():
    told = [("a", CaseLabels(er=True, her2=False)), ("b", CaseLabels(er=True)), ("a", CaseLabels(er=False))]
    cases = [SimpleNamespace(row=SimpleNamespace(patient_id=patient, labels=labels)) for patient, labels in told]
    assert patient_classes(cases, [ER]) == {"a": "er/negative er/positive", "b": "er/positive"}
    assert patient_classes(cases, [ER, HER2])["b"] == "er/positive her2/missing"
    assert patient_classes(cases, []) == {"a": "", "b": ""}
