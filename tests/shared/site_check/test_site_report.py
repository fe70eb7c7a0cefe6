"""What is told of a site folder: the same as a run does with it, read once, without an identifier."""

import json
import stat

import numpy as np
import pytest

from shared.config.run_config import parse_config
from shared.errors import StudyError
from shared.modalities import modality_named
from shared.modalities.checked_case import CheckedCase
from shared.site import Site
from shared.site_check import memory
from shared.site_check.site_report import (
    ALL_USABLE,
    NONE_USABLE,
    SOME_LEFT_OUT,
    CaseReport,
    SiteReport,
    ranges,
)


def test_check_and_prepare_agree_about_every_case(damaged, toy_config):
    """The same cases are usable, and the others are left out for the same reasons: by the functions of a run."""
    checked = damaged.check()
    site = Site(damaged.folder, "centre-a", parse_config(toy_config(), "toy"))
    mri = modality_named("mri")
    plan = mri.make_plan(sum(site.fingerprints().values(), start=mri.no_cases(site.config)), site.config)
    prepared = site.prepare("mri", plan)
    keys = {case.key: case.row.row for case in site.cohort.cases}
    assert {case.row for case in checked.cases if case.usable} == {
        keys[case.key] for split in prepared.values() for case in split
    }
    excluded = {item.row: item.reason for item in (*site.cohort.exclusions, *site.excluded)}
    assert {case.row: case.seen.reason for case in checked.left_out} == excluded
    assert excluded == {2: "no_breast_found", 3: "no_mask", 4: "unreadable_file"}
    assert checked.severity() == SOME_LEFT_OUT
    assert checked.severity(0.6) == ALL_USABLE


def test_facts_of_a_sound_case_are_those_of_its_images_and_its_mask(damaged):
    from shared.cohort.preflight import open_cohort
    from shared.modalities.mri.study import read_case

    checked = {case.row: case for case in damaged.check().cases}
    cohort = open_cohort(damaged.folder, [(modality_named("mri").locate, frozenset())])
    (case,) = [case for case in cohort.cases if case.row.row == 5]
    study = read_case(case)
    seen = checked[5].seen
    assert list(seen.facts["phases_s"]) == pytest.approx(study.times_s, abs=0.05)
    assert list(seen.facts["voxels"]) == list(study.grid.shape)
    assert list(seen.facts["spacing_mm"]) == pytest.approx(study.grid.spacing, abs=1e-3)
    volume = case.load_mask(study.grid).sum() * np.prod(study.grid.spacing) / 1000
    assert seen.facts["lesion_ml"] == pytest.approx(volume, abs=1e-3)
    assert sum(item.images for item in seen.series if item.taken) == len(study.phases) * study.grid.shape[0]
    assert [panel.title for panel in seen.panels] == ["before contrast", "first uptake", "outline, the breast alone"]
    assert all(panel.lines.any() for panel in seen.panels)
    # Of the one on the wrong side pictures are there all the same, and tell why.
    assert checked[2].seen.panels
    assert checked[2].seen.facts["lesion_ml"] > 0


def test_an_unchanged_case_is_not_read_again_and_a_stopped_check_goes_on(damaged, monkeypatch):
    read = []
    look = memory.look_at

    def counted(case):
        if len(read) == 3:
            raise KeyboardInterrupt
        read.append(case.row.row)
        return look(case)

    monkeypatch.setattr(memory, "look_at", counted)
    with pytest.raises(KeyboardInterrupt):
        damaged.check()
    assert read == [2, 3, 4]
    read.clear()
    first = damaged.check()
    assert read == [5, 6]  # what was stopped, and what had not begun
    assert first.known == 3
    read.clear()
    again = damaged.check()
    assert read == []
    assert again.known == 5
    assert json.dumps(again.to_dict()) == json.dumps(first.to_dict())
    damaged.table(lambda rows: (rows.insert(0, rows.pop()), rows[1].update(side="left", mask="")))
    read.clear()
    moved = damaged.check()  # rows change places: only the row that changed is read again
    assert read == [3]
    assert moved.known == 4
    read.clear()
    file = next((damaged.folder / "dicom").rglob("IM*"))
    file.write_bytes(file.read_bytes() + b"\0")
    damaged.check()
    assert len(read) == 1


def test_who_is_who_lies_in_the_cache_for_its_owner_alone(damaged):
    checked = damaged.check()
    assert stat.S_IMODE(checked.who.stat().st_mode) == 0o600
    lines = checked.who.read_text().splitlines()
    rows = (damaged.folder / "cases.csv").read_text().splitlines()
    assert [line.split(",")[1] for line in lines[1:]] == [row.split(",")[0] for row in rows[1:]]
    assert not checked.who.is_relative_to(damaged.folder)


def test_an_unforeseen_error_is_a_reason_that_names_the_place_and_no_data(damaged, monkeypatch):
    def broken(_case):
        raise ValueError("SECRET4711")

    monkeypatch.setattr("shared.modalities.mri.check.read_case", broken)
    report = damaged.check()
    assert {case.seen.reason for case in report.cases} == {"preprocessing_failed", "no_mask"}
    assert "SECRET" not in json.dumps(report.to_dict())
    assert "ValueError at tests" in report.cases[0].seen.detail or "ValueError at" in report.cases[0].seen.detail
    assert report.severity() == NONE_USABLE


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([2, 3, 4, 9], "2-4, 9"),
        ([], ""),
        (range(2, 192), "2-191"),
        (range(2, 40, 2), "2, 4, 6, 8, 10, 12, 14, 16 and 11 more"),
    ],
)
def test_rows_are_told_in_few_words(rows, text):
    assert ranges(rows) == text


def test_leaks_end_with_the_code_of_cases_left_out(damaged):
    report = damaged.check()
    from dataclasses import replace

    from shared.cohort.table_summary import Doubt

    sound = tuple(CaseReport(case.row, case.side, case.modality, CheckedCase(), {}) for case in report.cases)
    report = replace(report, cases=sound)
    assert report.severity() == ALL_USABLE
    leak = replace(report.table, doubts=(Doubt("leak", "two splits", (2, 3)),))
    assert replace(report, table=leak).severity() == SOME_LEFT_OUT
    assert isinstance(report, SiteReport)
    assert StudyError("no_mask", "x").reason == "no_mask"
