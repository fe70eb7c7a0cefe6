"""cases.csv: labels made canonical or refused with row and column; scenarios 30 to 36 of the project's faults."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.cohort.labels import SUBTYPE, Label
from shared.cohort.manifest import read_manifest, read_manifest_with_flags
from shared.errors import ConfigError, TableError


def fault(site, *lines):
    with pytest.raises(TableError) as caught:
        read_manifest(site.table(*lines))
    return caught.value


def values(site, column, *cells, header=None):
    lines = [f"P{number},left,{cell}" for number, cell in enumerate(cells)]
    rows = read_manifest(site.table(f"patient_id,side,{header or column}", *lines))
    return [getattr(row, column) for row in rows]


def test_a_full_row_is_read(site):
    (row,) = read_manifest(
        site.table(
            "patient_id,exam,side,modality,path,mask,er,pr,her2,her2_fish,ki67_percent,subtype,malignant,age,density,"
            "manufacturer,field_strength_t,acquisition_times,scanner_room",
            "P1,20210203,L,MRI,dicom/p1,masks/p1.nii.gz,pos,1,2+,negative,25%,Luminal B,yes,61,C,"
            'Philips Medical,3,"[0, 90, 180]",7',
        )
    )
    assert (row.row, row.patient_id, row.exam, row.side, row.modality) == (2, "P1", "20210203", "left", "MR")
    assert (row.path, row.mask, row.breast_mask) == ("dicom/p1", "masks/p1.nii.gz", "")
    assert (row.er, row.pr, row.her2, row.ki67_percent) == (True, True, False, 25.0)
    assert (row.subtype, row.malignant, row.age, row.density) == ("luminal_b", True, 61.0, "c")
    assert (row.manufacturer, row.field_strength_t) == ("PHILIPS", 3.0)
    assert row.acquisition_times_s == (0.0, 90.0, 180.0)
    assert row.extra == {"scanner_room": "7"}


def test_only_patient_and_side_are_required(site):
    (row,) = read_manifest(site.table("patient_id,side", "P1,right"))
    assert row.model_dump(exclude={"row", "patient_id", "side", "modality", "extra"}, exclude_defaults=True) == {
        "exam": "",
        "path": "",
        "mask": "",
    }


def test_scenario_31_words_for_a_receptor_are_made_canonical(site):
    positive = ["pos", "1", "Positive", " +", "yes", "TRUE", "1.0", "(+)"]
    negative = ["neg", "0", "NEGATIVE", "-", "no", "false", "0.0", "\u2212"]
    missing = ["", "NA", "n/a", "unknown", "nan", "?"]
    assert values(site, "er", *positive) == [True] * 8
    assert values(site, "pr", *negative) == [False] * 8
    assert values(site, "er", *missing) == [None] * 6


def test_scenario_31_an_unknown_word_is_refused_with_row_and_column(site):
    error = fault(site, "patient_id,side,er", "P1,left,pos", "P2,left,positve")
    assert (error.row, error.column) == (3, "er")
    assert "this value is not understood; did you mean 'positive'?" in str(error)
    error = fault(site, "patient_id,side,split", "P1,left,holdout")
    assert "write train, validation, test, or leave it blank when it is not known" in str(error)


def test_an_unknown_word_that_may_be_text_from_a_record_is_not_shown(site):
    error = fault(site, "patient_id,side,er", "P1,left,see letter to Dr Nadia Planted")
    assert "Nadia" not in str(error)
    assert "'this value'" not in str(error)
    assert error.row == 2


@pytest.mark.parametrize("side", ["both", "bilateral", "", "B"])
def test_a_row_is_one_breast(site, side):
    error = fault(site, "patient_id,side", f"P1,{side}")
    assert "one row a breast" in str(error)


def test_scenario_32_her2_scores_by_the_rules(site):
    header, lines = "patient_id,side,her2,her2_fish", []
    for number, (score, fish) in enumerate(
        [("0", ""), ("1+", ""), ("2+", ""), ("3+", ""), ("2+", "pos"), ("2+", "not amplified"), ("", "amplified")]
    ):
        lines.append(f"P{number},left,{score},{fish}")
    rows = read_manifest(site.table(header, *lines))
    assert [row.her2 for row in rows] == [False, False, None, True, True, False, True]


def test_scenario_32_a_contradiction_of_score_and_hybridisation_is_missing_and_flagged(site):
    rows, flags = read_manifest_with_flags(
        site.table("patient_id,side,her2,her2_fish", "P1,left,3+,neg", "P2,left,1+,pos", "P3,left,3+,pos")
    )
    assert [row.her2 for row in rows] == [None, None, True]
    assert [flag.row for flag in flags] == [2, 3]


def test_bare_her2_digits_are_a_status_or_scores_by_their_column(site):
    assert values(site, "her2", "0", "1", "1", "") == [False, True, True, None]
    error = fault(site, "patient_id,side,her2", "P0,left,0", "P1,left,1", "P2,left,2", "P3,left,3")
    assert [(item.row, item.column) for item in error.faults] == [(3, "her2"), (4, "her2"), (5, "her2")]
    assert values(site, "her2", "positive", "2+", "neg") == [True, None, False]
    assert "a score or a code" in str(fault(site, "patient_id,side,her2", "P1,left,1", "P2,left,2+"))


def test_scenario_33_ki67_in_two_units_stops_the_import(site):
    error = fault(site, "patient_id,side,ki67_percent", "P1,left,20", "P2,left,0.2", "P3,left,35")
    assert (error.row, error.column) == (3, "ki67_percent")
    assert "1 fractions, 2 percentages" in str(error)


def test_scenario_33_ki67_in_fractions_only_is_refused_with_the_remedy(site):
    assert "multiply the column by 100" in str(fault(site, "patient_id,side,ki67_percent", "P1,left,0.2", "P2,left,1"))


def test_ki67_with_its_unit_written_out_is_unambiguous(site):
    assert values(site, "ki67_percent", "0.5%", "20", "35 %", "0", "") == [0.5, 20.0, 35.0, 0.0, None]


@pytest.mark.parametrize("cell", ["120", "-3", "high", "1e400", "nan5", "1_0"])
def test_ki67_outside_a_percentage_is_refused_without_showing_it(site, cell):
    error = fault(site, "patient_id,side,ki67_percent", f"P1,left,{cell}")
    assert (error.row, error.column) == (2, "ki67_percent")
    assert cell not in str(error).replace("0 to 100", "")


def test_scenario_35_a_decimal_comma_beside_semicolons(site):
    rows = read_manifest(site.table("Patient_ID;Side;Ki67_percent;age", "P1;links;12,5;61"))
    assert (rows[0].ki67_percent, rows[0].age, rows[0].side) == (12.5, 61.0, "left")
    error = fault(site, "patient_id,side,ki67_percent", 'P1,left,"12,5"')
    assert error.column == "ki67_percent"


@pytest.mark.parametrize("identifier", ["1.23E+11", "1,2e+08", "P\ufffd1", "####"])
def test_scenario_35_an_identifier_damaged_by_a_spreadsheet_is_refused(site, identifier):
    error = fault(site, "patient_id,side", f'"{identifier}",left')
    assert (error.row, error.column) == (2, "patient_id")
    assert identifier not in str(error)


@pytest.mark.parametrize("cell", ["", "NA", "unknown"])
def test_a_blank_identifier_is_refused(site, cell):
    assert fault(site, "patient_id,side", f"{cell},left").column == "patient_id"


def test_a_path_longer_than_any_name_is_refused(site):
    assert fault(site, "patient_id,side,path", f"P1,left,{'x/..' * 3000}").column == "path"


def test_scenario_35_leading_zeros_of_an_identifier_are_kept(site):
    assert read_manifest(site.table("patient_id,side", "00012,left"))[0].patient_id == "00012"


def test_scenario_30_one_breast_with_two_labels_is_refused_by_row_only(site):
    header = "patient_id,exam,side,modality,er"
    error = fault(site, header, "SECRET1,1,left,MR,pos", "P2,1,left,MR,neg", "SECRET1,1,left,MG,neg")
    assert (error.row, error.column) == (4, "er")
    assert "differs from row 2" in str(error)
    assert "SECRET1" not in str(error)


def test_scenario_30_a_label_missing_in_one_of_two_rows_is_no_conflict(site):
    lines = ["P1,1,left,MR,", "P1,1,left,MG,neg"]
    assert len(read_manifest(site.table("patient_id,exam,side,modality,er", *lines))) == 2


def test_the_other_breast_and_another_exam_may_differ(site):
    lines = ["P1,1,left,pos", "P1,1,right,neg", "P1,2,left,neg"]
    assert [row.er for row in read_manifest(site.table("patient_id,exam,side,er", *lines))] == [True, False, False]


def test_the_same_case_twice_is_refused(site):
    error = fault(site, "patient_id,side,er", "P1,left,pos", "P1,right,pos", "P1,left,pos")
    assert "the same breast of the same exam as row 2" in str(error)
    assert error.row == 4


def test_scenario_34_a_subtype_against_its_receptors_is_flagged_and_kept(site):
    rows, flags = read_manifest_with_flags(
        site.table(
            "patient_id,side,er,pr,her2,ki67_percent,subtype",
            "P1,left,pos,pos,neg,10,tnbc",
            "P2,left,pos,pos,neg,10,luminal_a",
            "P3,left,neg,neg,neg,60,Luminal B",
            "P4,left,,,pos,,HER2-enriched",
        )
    )
    assert [(flag.row, flag.message) for flag in flags] == [
        (2, "subtype contradicts the receptors"),
        (4, "subtype contradicts the receptors"),
    ]
    assert [row.subtype for row in rows] == ["triple_negative", "luminal_a", "luminal_b", "her2_enriched"]


def test_scenario_36_a_patient_in_two_splits_is_refused(site):
    error = fault(site, "patient_id,side,split", "SECRET1,left,train", "P2,left,test", "SECRET1,right,test")
    assert (error.row, error.column) == (4, "split")
    assert "row 2" in str(error)
    assert "SECRET1" not in str(error)


@pytest.mark.parametrize("column", ["path", "mask", "breast_mask", "fibroglandular_mask"])
@pytest.mark.parametrize("cell", ["../other", "a/../../b", "/etc/passwd", "C:\\images\\p1", "..\\up", "~/../../x"])
def test_scenario_27_a_path_that_leaves_the_site_folder_is_refused(site, column, cell):
    error = fault(site, f"patient_id,side,{column}", f"P1,left,{cell}")
    assert (error.row, error.column) == (2, column)
    assert cell not in str(error)


def test_scenario_27_a_link_that_leaves_the_site_folder_is_refused(site, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (site.path / "link").symlink_to(tmp_path / "elsewhere")
    assert fault(site, "patient_id,side,path", "P1,left,link/p1").column == "path"


def test_a_path_with_backslashes_or_absolute_within_the_folder_is_taken(site):
    (row,) = read_manifest(site.table("patient_id,side,path,mask", f"P1,left,dicom\\p1,{site.path}/m.dcm#2"))
    assert row.path == "dicom/p1"
    assert row.mask.endswith("m.dcm#2")


def test_age_in_days_is_refused(site):
    assert "look at the unit" in str(fault(site, "patient_id,side,age", "P1,left,22300"))


@pytest.mark.parametrize("cell", ["0, 90, x", "5", "0, 90, 80"])
def test_acquisition_times_must_rise(site, cell):
    assert fault(site, "patient_id,side,acquisition_times", f'P1,left,"{cell}"').column == "acquisition_times"


def test_a_mistyped_optional_column_is_flagged(site):
    _, flags = read_manifest_with_flags(site.table("patient_id,side,her2_fsh,weight", "P1,left,pos,70"))
    assert [(flag.row, "'her2_fish'" in flag.message) for flag in flags] == [(1, True)]


@pytest.mark.parametrize(
    ("column", "meant"),
    [("ki67", "ki67_percent"), ("ER status", "er"), ("lesion_mask", "mask"), ("weight", ""), ("er2", "her2")],
)
def test_a_column_with_a_word_of_an_optional_one_is_flagged(site, column, meant):
    _, flags = read_manifest_with_flags(site.table(f"patient_id,side,{column}", "P1,left,"))
    assert [flag.message.split("'")[1] for flag in flags] == ([meant] if meant else [])


def test_a_table_without_rows_is_refused(site):
    assert "no row below the header" in str(fault(site, "patient_id,side"))


def test_identifiers_stay_out_of_repr(site):
    (row,) = read_manifest(site.table("patient_id,exam,side,path,note", "SECRET1,E1,left,SECRET1,about SECRET1"))
    assert "SECRET1" not in repr(row)


WORD = st.sampled_from(
    ["pos", "neg", "1", "0", "", "2+", "3", "0.2", "20", "left", "x", "../a", "12,5", "=1+1", "\u2212"]
)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(
        st.tuples(
            *[st.one_of(WORD, st.text(st.characters(codec="utf-8", exclude_characters='\0"\r\n,'), max_size=6))] * 8
        ),
        min_size=1,
        max_size=4,
    )
)
def test_any_cells_give_rows_or_a_table_error(site, rows):
    header = "patient_id,side,er,her2,ki67_percent,age,path,subtype"
    lines = [",".join(f'"{cell}"' for cell in row) for row in rows]
    try:
        read = read_manifest(site.table(header, *lines))
    except TableError:
        return
    assert all(row.side in {"left", "right"} and row.her2 in {True, False, None} for row in read)


GRADE, SIZE = Label("grade3", "Grade 3"), Label("size_mm", "Size", "number")


def further(site, *lines, labels=(GRADE, SIZE)):
    return [row.labels for row in read_manifest_with_flags(site.table(*lines), None, labels)[0]]


def test_a_label_that_a_task_declares_is_read_from_its_column(site):
    words = ["yes", "neg", "1", "0", "Positive", "unknown", ""]
    found = further(site, "patient_id,side,Grade3,size_mm",
                    *(f"P{number},left,{word},{number}.5" for number, word in enumerate(words)))  # fmt: skip
    assert [item.value("grade3") for item in found] == [1.0, 0.0, 1.0, 0.0, 1.0, None, None]
    assert [item.value("size_mm") for item in found] == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5]
    assert [GRADE.counted_as(item) for item in found[-3:]] == ["grade3/positive", "grade3/missing", "grade3/missing"]


def test_a_number_of_a_label_follows_the_tables_decimal_sign(site):
    (found,) = further(site, "patient_id;side;size_mm", "P1;links;12,5")
    assert found.other == {"size_mm": 12.5}


def test_a_table_without_the_column_and_a_run_without_the_label_have_no_such_label(site):
    assert further(site, "patient_id,side", "P1,left")[0].other == {}
    assert further(site, "patient_id,side,grade3", "P1,left,perhaps", labels=())[0].other == {}
    # A known label has its own rules, whoever declares it.
    assert further(site, "patient_id,side,er", "P1,left,pos", labels=(Label("er", "ER"),))[0].other == {}


@pytest.mark.parametrize(
    ("line", "column", "words"),
    [
        ("P2,left,perhaps,1", "grade3", "this value is not understood"),
        ("P2,left,SECRET about a patient that is long,1", "grade3", "this value is not understood"),
        ("P2,left,1,12 mm", "size_mm", r"not a number \(Size\)"),
        ("P2,left,1,inf", "size_mm", r"not a number \(Size\)"),
    ],
)
def test_a_cell_of_such_a_label_that_cannot_be_is_refused_with_row_and_column(site, line, column, words):
    with pytest.raises(TableError, match=words) as caught:
        further(site, "patient_id,side,grade3,size_mm", "P1,left,yes,3", line)
    assert (caught.value.row, caught.value.column) == (3, column)
    assert "SECRET" not in str(caught.value)
    assert "12 mm" not in str(caught.value)


def test_one_breast_with_two_such_labels_is_refused_and_one_that_is_missing_is_not(site):
    header = "patient_id,exam,side,modality,size_mm"
    assert len(further(site, header, "P1,1,left,MR,3", "P1,1,left,MG,")) == 2
    with pytest.raises(TableError, match="differs from row 2") as caught:
        further(site, header, "P1,1,left,MR,3", "P1,1,left,MG,4")
    assert (caught.value.row, caught.value.column) == (3, "size_mm")


def test_a_column_of_classes_must_be_one_that_the_table_knows(site):
    other = Label("phenotype", "Phenotype", "classes", ("a", "b"))
    with pytest.raises(ConfigError, match="label 'phenotype'"):
        further(site, "patient_id,side,phenotype", "P1,left,a", labels=(other,))
    assert further(site, "patient_id,side,subtype", "P1,left,tnbc", labels=(SUBTYPE,))[0].subtype == "triple_negative"


def test_a_declared_label_is_no_mistyped_column(site):
    lines = ("patient_id,side,her2_fsh", "P1,left,pos")
    assert read_manifest_with_flags(site.table(*lines), None, (Label("her2_fsh", "x"),))[1] == ()
    assert len(read_manifest_with_flags(site.table(*lines))[1]) == 1
