"""Mammography as a modality: which rows are cases, what `check` finds, pictures, and what it declares."""

import pytest

from shared.cohort.preflight import open_cohort
from shared.errors import StudyError
from shared.modalities import modality_named
from shared.modalities.checked_case import CheckedCase
from shared.modalities.mammography.mammography import MODALITY, background, check, locate
from tests.shared.modalities.mammography.conftest import write_mask

BOTH = ("CC", "MLO")


def test_a_breast_without_outline_is_left_out_where_all_tasks_need_one_and_rows_of_mr_always(
    breasts,
):
    site = breasts(("P1", "left", BOTH, BOTH, {}), ("P1", "right", BOTH, (), {}))
    table = site / "cases.csv"
    table.write_text(table.read_text() + "P1,left,MR,images-0,,,,,,,\n")
    for needs, sides, left_out in (
        ({"lesion"}, ["left"], ["no_mask"]),
        ({"image"}, ["left", "right"], []),
        ({"lesion", "image"}, ["left", "right"], []),
    ):
        cohort = open_cohort(site, [(locate, frozenset(needs))])
        assert [case.row.side for case in cohort.cases] == sides
        assert [item.reason for item in cohort.exclusions] == left_out
        assert cohort.others == (4,)


def test_check_reads_the_views_and_the_outlines(breasts):
    site = breasts(("P1", "left", BOTH, BOTH, {}), ("P2", "right", ("MLO",), (), {}))
    one, two = open_cohort(site, [(locate, frozenset())]).cases
    seen = [CheckedCase(), CheckedCase()]
    for case, own in zip((one, two), seen, strict=True):
        check(case, own)
    assert [own.facts["views"] for own in seen] == [("CC", "MLO"), ("MLO",)]
    assert [sum(item.taken for item in own.series) for own in seen] == [2, 1]
    assert [[bool(item.lines.any()) for item in own.panels] for own in seen] == [[True, True], [False]]
    assert seen[0].facts["lesion_cc_mm2"] > 0
    assert seen[1].notes == ["Of the two views there is MLO alone."]
    write_mask(site / "masks-0" / "MLO.dcm", where=(slice(0, 3), slice(170, 175)))
    with pytest.raises(StudyError) as caught:
        check(one, CheckedCase())
    assert caught.value.reason == "mask_mismatch"
    (site / "images-1" / "MLO.dcm").write_bytes((site / "images-1" / "MLO.dcm").read_bytes()[:900])
    with pytest.raises(StudyError):
        check(two, CheckedCase())


def test_pictures_are_the_views_in_mm(breasts):
    (case,) = open_cohort(breasts(("P1", "right", BOTH, (), {})), [(locate, frozenset())]).cases
    shown = background(case)
    assert {name: image.shape for name, image in shown.images.items()} == dict.fromkeys(BOTH, (1, 240, 180))
    assert shown.spacing == (1.0, 0.07, 0.07)


def test_it_stands_in_the_table_under_its_name():
    assert modality_named("mammography") is MODALITY
    assert MODALITY.name == "mammography"
