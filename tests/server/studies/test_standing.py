"""Which cells of a study are thin, undefined, left out or refused."""

import numpy as np
import pandas as pd
import pytest

from server.evaluation.study_statistics.analysis import analyse
from shared.errors import RunError
from tests.server.studies.invented_studies import NO_COHORT, by_hand, cohort, only, settings, study, tissues


def row(found, metric="dice", centre="all"):
    return only(found.summary, metric=metric, centre=centre, arm="federated")


def test_thin_cells_are_shown_and_not_ranked():
    table = by_hand([(f"a-p{i}-e-{side}", "federated", 0, 0.1 * i) for i in range(9) for side in "LR"])
    more = by_hand([(f"b-p{i}-e-L", "federated", 0, 0.1 * (i % 7)) for i in range(10)])
    found = study(pd.concat([table, more]), NO_COHORT)
    thin, enough = row(found, centre="a"), row(found, centre="b")
    assert (thin["ranked"], thin["note"], thin["n"]) == (False, "thin: 9 patients", 18)
    assert thin["ci_low"] < thin["value"] < thin["ci_high"]
    assert (enough["ranked"], enough["note"]) == (True, "")


def labelled(truth, **changes):
    return pd.DataFrame({
        "case": [f"a-p{i:02d}-e-L" for i in range(len(truth))], "patient": [f"a-p{i:02d}" for i in range(len(truth))],
        "centre": "a", "arm": "federated", "model_hash": "m", "role": "external", "seed": 0, "held_out": "a",
        "label": "er", "truth": truth, "score": np.linspace(0.1, 0.9, len(truth)),
    }).assign(**changes)  # fmt: skip


def test_ten_positives_and_ten_negatives_are_ranked_and_nine_are_not():
    enough = study(labelled([0.0, 1.0] * 10), NO_COHORT, "receptor-status")
    assert (row(enough, "auc_er")["ranked"], row(enough, "auc_er")["note"]) == (True, "")
    thin = study(labelled([0.0, 1.0] * 9 + [0.0] * 9), NO_COHORT, "receptor-status")
    assert (row(thin, "auc_er")["ranked"], row(thin, "auc_er")["note"]) == (False, "thin: 9 positives, 18 negatives")
    assert not row(thin, "brier_er")["ranked"]
    assert row(thin, "auc_er")["value"] > 0


def test_of_several_labels_the_thinnest_counts():
    even, rare = labelled([0.0, 1.0] * 12, label="luminal_a"), labelled([1.0] * 3 + [0.0] * 21, label="luminal_b")
    found = row(study(pd.concat([even, rare]), NO_COHORT, "subtype-ensemble"), "auc_macro")
    assert (found["ranked"], found["note"]) == (False, "undefined; thin: 3 positives, 21 negatives")


def test_a_single_class_is_undefined_and_never_one_half():
    found = study(labelled([1.0] * 30), NO_COHORT, "receptor-status", {"m": {"er": 0.5}})
    area = row(found, "auc_er")
    assert np.isnan(area[["value", "ci_low", "ci_high"]].astype(float)).all()
    assert (area["n"], area["ranked"], area["note"]) == (30, False, "undefined: one class")
    assert row(found, "specificity_er")["note"] == "undefined: one class"
    assert row(found, "sensitivity_er")["value"] == pytest.approx(0.5)
    assert row(found, "brier_er")["note"] == "thin: 30 positives, 0 negatives"
    assert found.meta.empty


def test_each_model_is_judged_at_its_own_threshold_and_without_one_not_at_all():
    truth = [0.0, 1.0] * 10
    table = pd.concat([labelled(truth), labelled(truth, seed=1, model_hash="n"), labelled(truth, arm="ensemble")])
    found = study(table, NO_COHORT, "receptor-status", {"m": {"er": 0.05}, "n": {"er": 0.95}})
    assert row(found, "sensitivity_er")["value"] == pytest.approx((1 + 0) / 2)
    assert row(found, "specificity_er")["value"] == pytest.approx((0 + 1) / 2)
    partly = study(table, NO_COHORT, "receptor-status", {"m": {"er": 0.05}, "n": {"er": None}})
    assert (row(partly, "sensitivity_er")["value"], row(partly, "sensitivity_er")["seeds"]) == (1.0, 1)
    none = study(labelled(truth, arm="ensemble"), NO_COHORT, "receptor-status", {"m": {"er": None}})
    assert not none.summary["metric"].str.startswith("sensitivity").any()
    assert "ppv_er" not in set(none.results["metric"])


def test_tasks_keep_the_configurations_order_and_one_without_cases_has_no_rows():
    table = by_hand([(f"a-p{i}-e-L", "federated", 0, 0.5) for i in range(3)])
    config = settings("receptor-status", "lesion-segmentation", "breast-segmentation")
    tables = {
        "lesion-segmentation": table,
        "breast-segmentation": tissues(cohort()).iloc[:0],
        "receptor-status": labelled([0, 1]),
    }
    found = analyse(tables, NO_COHORT, {}, config)
    assert list(dict.fromkeys(found.summary["task"])) == ["receptor-status", "lesion-segmentation"]


def test_tables_that_cannot_be_right_are_refused():
    table = by_hand([("a-p1-e-L", "federated", 0, 0.5), ("b-p1-e-L", "federated", 0, 0.6)])
    wrong = {
        "lack role": table.drop(columns="role"),
        "twice": pd.concat([table, table]),
        "held out": table.assign(held_out="b"),
        "two patients": pd.concat([table, table.assign(seed=1, patient="a-p9")]),
    }
    for message, broken in wrong.items():
        with pytest.raises(RunError, match=message):
            study(broken, NO_COHORT)
    with pytest.raises(RunError, match="cohort lists a case twice"):
        study(table, pd.concat([cohort(), cohort()]))
