"""Which figures of a study are thin, undefined or left out."""

import numpy as np
import pandas as pd
import pytest

from shared.cohort.labels import SUBTYPES
from tests.server.evaluation.study_statistics.invented_studies import (
    NO_COHORT,
    by_hand,
    only,
    study,
)


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
        "truth_er": truth, "score_er": np.linspace(0.1, 0.9, len(truth)),
    }).assign(**changes)  # fmt: skip


def test_ten_positives_and_ten_negatives_are_ranked_and_nine_are_not():
    enough = study(labelled([0.0, 1.0] * 10), NO_COHORT, "receptor-status")
    assert (row(enough, "auc_er")["ranked"], row(enough, "auc_er")["note"]) == (True, "")
    thin = study(labelled([0.0, 1.0] * 9 + [0.0] * 9), NO_COHORT, "receptor-status")
    assert (row(thin, "auc_er")["ranked"], row(thin, "auc_er")["note"]) == (False, "thin: 9 positives, 18 negatives")
    assert not row(thin, "brier_er")["ranked"]
    assert row(thin, "auc_er")["value"] > 0


def test_a_share_of_the_positives_is_ranked_by_both_classes():
    found = study(labelled([0.0, 1.0] * 12, threshold_er=0.5), NO_COHORT, "receptor-status")
    for metric in ("sensitivity_er", "specificity_er"):
        assert (row(found, metric)["ranked"], row(found, metric)["note"], row(found, metric)["n"]) == (True, "", 12)
    thin = study(labelled([0.0, 1.0] * 9 + [0.0] * 9, threshold_er=0.5), NO_COHORT, "receptor-status")
    for metric in ("sensitivity_er", "ppv_er", "npv_er"):
        assert row(thin, metric)["note"] == "thin: 9 positives, 18 negatives"


def test_of_several_labels_the_thinnest_counts():
    columns = {f"truth_{name}": [0.0, 1.0] * 12 for name in SUBTYPES} | {"truth_luminal_b": [1.0] * 3 + [0.0] * 21}
    columns |= {f"score_{name}": np.linspace(0.1, 0.9, 24) for name in SUBTYPES}
    found = row(study(labelled([0.0] * 24, **columns), NO_COHORT, "subtype-ensemble"), "auc_macro")
    assert (found["ranked"], found["note"]) == (False, "thin: 3 positives, 21 negatives")
    columns["truth_luminal_b"] = [0.0] * 24
    lacking = row(study(labelled([0.0] * 24, **columns), NO_COHORT, "subtype-ensemble"), "auc_macro")
    assert (lacking["ranked"], lacking["note"]) == (False, "undefined: one class")


def test_a_single_class_is_undefined_and_never_one_half():
    found = study(labelled([1.0] * 30, threshold_er=0.5), NO_COHORT, "receptor-status")
    area = row(found, "auc_er")
    assert np.isnan(area[["value", "ci_low", "ci_high"]].astype(float)).all()
    assert (area["n"], area["ranked"], area["note"]) == (30, False, "undefined: one class")
    assert row(found, "specificity_er")["note"] == "undefined: one class"
    assert row(found, "sensitivity_er")["value"] == pytest.approx(0.5)
    assert (row(found, "specificity_er")["n"], row(found, "sensitivity_er")["n"]) == (0, 30)
    assert row(found, "brier_er")["note"] == "thin: 30 positives, 0 negatives"
    assert found.meta.empty


def test_each_model_is_evaluated_at_its_own_threshold_and_without_one_not_at_all():
    truth = [0.0, 1.0] * 10

    def answers(first, second):
        own = labelled(truth, threshold_er=first), labelled(truth, seed=1, model_hash="n", threshold_er=second)
        return pd.concat([*own, labelled(truth, arm="ensemble")])

    found = study(answers(0.05, 0.95), NO_COHORT, "receptor-status")
    assert row(found, "sensitivity_er")["value"] == pytest.approx((1 + 0) / 2)
    assert row(found, "specificity_er")["value"] == pytest.approx((0 + 1) / 2)
    partly = study(answers(0.05, np.nan), NO_COHORT, "receptor-status")
    assert (row(partly, "sensitivity_er")["value"], row(partly, "sensitivity_er")["seeds"]) == (1.0, 1)
    none = study(labelled(truth, arm="ensemble", threshold_er=np.nan), NO_COHORT, "receptor-status")
    assert not none.summary["metric"].str.startswith("sensitivity").any()
    assert "ppv_er" not in set(none.results["metric"])
