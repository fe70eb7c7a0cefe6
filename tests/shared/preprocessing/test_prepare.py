"""Cases one by one: order, exclusions, and what stops a run."""

import logging

import pytest

from shared.cohort.manifest import CaseRow
from shared.cohort.preflight import Case, Exclusion
from shared.errors import RunError, StudyError
from shared.preprocessing.prepare import each_case


@pytest.fixture
def cases(tmp_path):
    rows = [
        CaseRow(row=number, patient_id=f"SECRET{number}", exam="", side="left", modality="MR", path="", mask="")
        for number in range(2, 7)
    ]
    return [Case(f"site-{row.row}", "mri", row, tmp_path, None) for row in rows]


def double(case):
    return 2 * case.row.row


def test_results_come_in_the_cases_order_and_progress_after_each(cases):
    steps = []
    assert each_case(cases, double, 1, lambda *step: steps.append(step)) == ([4, 6, 8, 10, 12], [])
    assert steps == [(done, 5) for done in range(1, 6)]


def test_a_study_that_cannot_be_used_is_an_exclusion_by_its_reason(cases, caplog):
    def work(case):
        if case.row.row == 4:
            raise StudyError("no_mask", "the row names none")
        return double(case)

    with caplog.at_level(logging.WARNING):
        results, exclusions = each_case(cases, work, 1, None)
    assert results == [4, 6, 10, 12]
    assert exclusions == [Exclusion(4, "no_mask")]
    assert "site-4 is left out: no_mask" in caplog.text


def test_any_other_fault_is_an_exclusion_whose_words_stay_out_of_the_log(cases, caplog):
    def work(case):
        raise ValueError(f"cannot parse {case.row.patient_id}")

    with caplog.at_level(logging.WARNING):
        results, exclusions = each_case(cases, work, 1, None)
    assert results == []
    assert {item.reason for item in exclusions} == {"preprocessing_failed"}
    assert f"ValueError at {__name__}:" in caplog.text
    assert "SECRET" not in caplog.text


def test_a_full_disk_stops_the_site(cases):
    def work(case):
        raise RunError("no space left")

    with pytest.raises(RunError, match="no space left"):
        each_case(cases, work, 1, None)
