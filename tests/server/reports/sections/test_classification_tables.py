"""AUCs by arm and label, and the tests between arms: those of the rows, few cases named, one class undefined."""

import html

import pandas as pd

from server.evaluation.arm_comparison import compare_arms
from server.reports.metric_text import DASH, fixed
from shared.metrics.score_sums import SUBTYPES
from tests.server.reports.invented_classifiers import (
    ALL,
    END,
    SETTINGS,
    external,
    render,
    section,
    subtypes,
    text_of,
    whole,
)

SUBTYPE_NAMES = ["Luminal A", "Luminal B", "HER2-enriched", "Triple negative"]
ALONE = ("axial", "coronal", "sagittal", "volume")


def test_each_arm_has_its_line_and_the_oracle_the_last():
    rows, part, _ = whole()
    shown = ["Reference outline", "End to end", *(f"{name.capitalize()} alone" for name in ALONE), "Oracle"]
    lines = part["scores"]["lines"]
    assert [line["arm"] for line in lines] == shown
    assert [line["n"] for line in lines] == [60] * 6 + [DASH]
    arms = ["federated", END, *(f"federated:{name}" for name in ALONE), "oracle"]
    stored = {(row.arm, row.metric): row for row in rows if row.role == "external"}
    assert [column["label"] for column in part["scores"]["columns"]] == [*SUBTYPE_NAMES, "Mean of the four"]
    for line, arm in zip(lines, arms, strict=True):
        metrics = [f"auc_{name}" for name in (*SUBTYPES, "macro")]
        assert [cell.row for cell in line["cells"]] == [stored[arm, metric] for metric in metrics]


def test_fewer_than_ten_of_a_class_are_not_ranked():
    _, part, page = whole()
    few = {column["label"]: (column["few"], column["count"]) for column in part["scores"]["columns"]}
    assert few == {
        "Luminal A": (False, "24 of 60"), "Luminal B": (False, "20 of 60"), "HER2-enriched": (True, "4 of 60"),
        "Triple negative": (False, "12 of 60"), "Mean of the four": (True, ""),
    }  # fmt: skip
    assert "HER2-enriched 4 of 60: few Triple" in text_of(page)
    assert "few: under 10 of a class, shown and not ranked" in text_of(page)
    nearly = subtypes(counts=(24, 20, 10, 10))
    assert not any(column["few"] for column in section(nearly, external(nearly))["scores"]["columns"])


def test_a_single_class_is_undefined_with_its_reason_and_never_a_number():
    table = pd.concat([subtypes(counts=(30, 18, 0, 12)), subtypes(END, seed=1, counts=(30, 18, 0, 12))])
    part = section(table, external(table))
    page = render(part)
    text = text_of(page)
    assert "HER2-enriched 0 of 60: few" in text
    for line in part["scores"]["lines"]:
        assert [cell.text == "undefined" for cell in line["cells"]] == [False, False, True, False, True]
    assert "HER2-enriched, 0 of 60 cases positive, both classes are needed" in text
    assert 'title="0 of 60 cases positive, both classes are needed"' in page
    assert "Mean of the four, the mean needs an AUC of each of the four subtypes" in text
    assert "AUC undefined" in html.unescape(page)  # in the panel of the ROC curves
    assert " for Luminal A, " in part["sentence"]  # the labels speak where their mean cannot


def test_differences_are_those_of_the_paired_tests():
    _, part, page = whole()
    found = compare_arms(ALL, "federated", SETTINGS, seed=3).set_index(["arm", "label"])
    lines = part["tests"]["lines"]
    assert [line["arm"] for line in lines] == ["End to end", *(f"{name.capitalize()} alone" for name in ALONE)]
    assert sum(len(line["cells"]) for line in lines) == len(found) == 25
    for cell, label in zip(lines[0]["cells"], (*SUBTYPES, "macro"), strict=True):
        row = found.loc[(END, label)]
        assert cell["difference"] == fixed(row["difference"], 3)
        assert cell["interval"] == f"{fixed(row['low'], 3)} to {fixed(row['high'], 3)}"
        p = f"p {fixed(row['p'], 3)}, Holm {fixed(row['p_holm'], 3)}"
        assert cell["p"] == ("" if label == "macro" else p)
    assert "by DeLong's paired test" in text_of(page)
    assert "over all 20 p" in text_of(page)


def test_two_cases_of_a_patient_are_not_said_to_be_tested_by_delong():
    table = pd.concat([subtypes(), subtypes(END, seed=1)]).assign(patient=lambda t: t["case"].str[:-1] + "x")
    page = text_of(render(section(table, external(table))))
    assert "by a paired bootstrap of patients" in page
    assert "DeLong" not in page
