"""AUCs by arm and label, and the tests between arms: those of the rows, few cases named, one class undefined."""

import html

import pandas as pd

from server.evaluation.arm_comparison import compare_arms
from server.reports.metric_text import fixed
from shared.cohort.labels import SUBTYPES
from shared.tasks import task_named
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
AREAS = [metric for metric in task_named("subtype-ensemble").metrics if metric.sent == "histogram"]
ALONE = ("axial", "coronal", "sagittal", "volume")


def test_each_arm_has_its_line_and_the_oracle_the_last():
    rows, part, _ = whole()
    shown = ["Reference outline", "End to end", *(f"{name.capitalize()} alone" for name in ALONE), "Best possible"]
    lines = part["scores"]["auc"]["lines"]
    assert [line["name"] for line in lines] == shown
    assert [line["n"] for line in lines] == [60] * 6 + [0]
    arms = ["federated", END, *(f"federated:{name}" for name in ALONE), "oracle"]
    stored = {(row.arm, row.metric): row for row in rows if row.role == "external"}
    assert [column.title for column in part["scores"]["auc"]["columns"]] == ["AUC, mean of the four", *SUBTYPE_NAMES]
    for line, arm in zip(lines, arms, strict=True):
        metrics = [f"auc_{name}" for name in ("macro", *SUBTYPES)]
        assert line["rows"] == [stored[arm, metric] for metric in metrics]


def test_fewer_than_ten_of_a_class_are_not_ranked():
    _, part, page = whole()
    few = {column.title: (column.few, column.note) for column in part["scores"]["auc"]["columns"]}
    assert few == {
        "Luminal A": (False, "24 of 60"), "Luminal B": (False, "20 of 60"), "HER2-enriched": (True, "4 of 60: few"),
        "Triple negative": (False, "12 of 60"), "AUC, mean of the four": (True, "few"),
    }  # fmt: skip
    assert "HER2-enriched 4 of 60: few Triple" in text_of(page)
    assert "few: under 10 of a class, shown and not ranked" in text_of(page)
    nearly = subtypes(counts=(24, 20, 10, 10))
    assert not any(column.few for column in section(nearly, external(nearly))["scores"]["auc"]["columns"])


def test_a_single_class_is_undefined_with_its_reason_and_never_a_number():
    table = pd.concat([subtypes(counts=(30, 18, 0, 12)), subtypes(END, seed=1, counts=(30, 18, 0, 12))])
    part = section(table, external(table))
    page = render(part)
    text = text_of(page)
    assert "HER2-enriched 0 of 60: few" in text
    for line in part["scores"]["auc"]["lines"]:
        assert [row.value is None for row in line["rows"]] == [True, False, False, True, False]
    assert "HER2-enriched, 0 of 60 cases positive, both classes are needed" in text
    assert "AUC, mean of the four, a mean needs an AUC of each label" in text
    assert text.count(" undefined ") >= 4
    assert "AUC undefined" in html.unescape(page)  # in the panel of the ROC curves
    assert " for Luminal A, " in part["sentence"]  # the labels speak where their mean cannot


def test_differences_are_those_of_the_paired_tests():
    _, part, page = whole()
    found = compare_arms(ALL, "federated", AREAS, SETTINGS, seed=3).set_index(["arm", "metric"])
    lines = part["scores"]["tests"]["lines"]
    assert [line["arm"] for line in lines] == ["End to end", *(f"{name.capitalize()} alone" for name in ALONE)]
    assert sum(len(line["cells"]) for line in lines) == len(found) == 25
    for cell, label in zip(lines[0]["cells"], ("macro", *SUBTYPES), strict=True):
        row = found.loc[(END, f"auc_{label}")]
        assert cell["difference"] == fixed(row["difference"], 3)
        assert cell["interval"] == f"{fixed(row['low'], 3)} to {fixed(row['high'], 3)}"
        p = f"p {fixed(row['p'], 3)}, Holm {fixed(row['p_holm'], 3)}"
        assert cell["p"] == ("" if label == "macro" else p)
    assert "by DeLong's paired test" in text_of(page)
    assert "over all 20 p" in text_of(page)


def test_two_cases_of_a_patient_are_not_said_to_be_tested_by_delong():
    table = pd.concat([subtypes(), subtypes(END, seed=1)]).assign(patient=lambda t: t["case"].str[:11])
    page = text_of(render(section(table, external(table))))
    assert "by a paired bootstrap of patients" in page
    assert "DeLong's paired test" not in page


def test_thresholds_and_further_figures_have_one_line_per_label_and_are_the_rows():
    rows, part, _ = whole()
    stored = {(row.arm, row.metric): row for row in rows if row.role == "external"}
    thresholds, further = part["scores"]["thresholds"], part["scores"]["further"]
    assert [column.title for column in thresholds["columns"]] == ["Sensitivity", "Specificity", "PPV", "NPV"]
    # HER2-enriched and triple negative have no threshold.
    names = ["Luminal A, reference outline", "Luminal A, end to end", "Luminal B, reference outline"]
    assert [line["name"] for line in thresholds["lines"]] == [*names, "Luminal B, end to end"]
    assert thresholds["lines"][1]["rows"][0] == stored[END, "sensitivity_luminal_a"]
    assert [line["name"] for line in further["lines"]] == [
        "Luminal A", "Luminal B", "HER2-enriched (few)", "Triple negative",
    ]  # fmt: skip
    titles = [column.title for column in further["columns"]]
    assert further["lines"][2]["rows"][titles.index("Brier score")] == stored["federated", "brier_her2_enriched"]
    assert further["lines"][0]["rows"][titles.index("Log loss")] == stored["federated", "log_loss_luminal_a"]
