"""Scores of a study: a label's figures without a threshold and at it, curves of those who answer."""

import re

from server.reports.study.roc_calibration import scores
from shared.tasks import task_named
from tests.server.reports.study.invented_study import CLASSIFIER, SEGMENTATION


def test_each_label_has_a_table_of_its_scores_and_one_at_its_threshold(study):
    tables = scores(study, task_named(CLASSIFIER))["tables"]
    assert [table["title"] for table in tables] == [
        "ER, ranking and calibration", "ER, at the frozen thresholds",
        "HER2, ranking and calibration", "HER2, at the frozen thresholds",
    ]  # fmt: skip
    ranking, frozen = tables[:2]
    assert ranking["columns"][0] == "AUC"
    assert "Brier score" in ranking["columns"]
    assert frozen["columns"] == ["Sensitivity", "Specificity", "PPV", "NPV"]
    own = study.tables.summary.query(f"task == '{CLASSIFIER}' and arm == 'pooled' and centre == 'all'")
    own = own[own["role"] == "external"].set_index("metric")["value"]
    pooled = next(line for line in ranking["lines"] if line["name"] == "Pooled")
    assert pooled["cells"][0].value == own["auc_er"]
    pooled = next(line for line in frozen["lines"] if line["name"] == "Pooled")
    assert [cell.value for cell in pooled["cells"]] == [
        own[f"{n}_er"] for n in ("sensitivity", "specificity", "ppv", "npv")
    ]
    last = ranking["lines"][-1]
    assert (last["name"], last["thin"], last["n"]) == ("Federated at centre-d", True, "20 (20)")


def test_there_is_one_panel_for_each_label_and_a_calibration_of_each_arm(study):
    roc, *calibration = scores(study, task_named(CLASSIFIER))["figures"]
    words = re.findall(r"<text[^>]*>([^<]*)</text>", roc["svg"])
    assert {"ER", "HER2", "Federated", "Pooled", "Ensemble"} <= set(words)
    assert "PR" not in words
    assert "80 cases of 80 patients" in roc["caption"]
    assert [item["caption"].split(" arm ")[0] for item in calibration] == [
        f"Calibration of the {arm}" for arm in ("federated", "pooled", "ensemble")
    ]


def test_a_task_without_scores_has_none(study):
    assert scores(study, task_named(SEGMENTATION)) is None
