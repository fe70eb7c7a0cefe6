"""Differences between arms against R's pROC, Holm in R, and bootstraps made by hand."""

import numpy as np
import pandas as pd
import pytest

from server.evaluation import arm_comparison
from server.evaluation.arm_comparison import COMPARISON, compare_arms
from shared.errors import RunError
from shared.metrics.intervals import bootstrap_patients
from shared.metrics.roc import PairedTest, weighted_auc
from shared.reproducibility import derive_seed
from tests.server.evaluation.invented_scores import (
    AREAS,
    CLASSES,
    GOLDEN,
    KI67,
    RECEPTORS,
    SETTINGS,
    pair,
    scored,
    subtypes,
    summarise,
    together,
)


def test_differences_are_those_of_proc():
    found = compare_arms(pair(), "radiomics", AREAS, SETTINGS)
    assert tuple(found.columns) == COMPARISON
    z, p = GOLDEN["test"]
    error = (0.84375 - 0.7291667) / z
    expected = [0.84375 - 0.7291667, 0.84375 - 0.7291667 - 1.959964 * error, 0.84375 - 0.7291667 + 1.959964 * error]
    assert found[["difference", "low", "high"]].iloc[0].tolist() == pytest.approx(expected, abs=1e-5)
    assert found[["arm", "metric", "n"]].iloc[0].tolist() == ["federated", "auc_er", 20]
    assert found[["p", "p_holm"]].iloc[0].tolist() == pytest.approx([p, p], abs=1e-6)


def test_p_values_are_adjusted_as_in_r(monkeypatch):
    given = [0.001, 0.008, 0.039, 0.041, 0.042, 0.06, 0.074, 0.205]
    left = iter(given)
    monkeypatch.setattr(arm_comparison, "delong_test", lambda *_: PairedTest(0.1, 0.0, 0.2, 2.0, next(left)))
    found = compare_arms(together(*(pair(label) for label in (*CLASSES, *RECEPTORS))), "radiomics", AREAS, SETTINGS)
    tests = found[found["metric"] != "auc_macro"]
    assert tests["p"].tolist() == given
    assert tests["p_holm"].tolist() == pytest.approx([0.008, 0.056] + [0.234] * 6)
    assert found.loc[found["metric"] == "auc_macro", ["p", "p_holm"]].isna().all(axis=None)


def test_a_single_positive_has_a_difference_and_no_interval():
    truth = [1] + [0] * 11
    table = pd.concat([scored(truth, np.linspace(0.9, 0, 12)), scored(truth, np.linspace(0, 0.9, 12), arm="radiomics")])
    found = compare_arms(table, "radiomics", AREAS, SETTINGS).iloc[0]
    assert (found["difference"], found["n"]) == (1.0, 12)
    assert found[["low", "high", "p", "p_holm"]].isna().all()


def test_arms_are_compared_on_the_cases_that_both_answered():
    truth, good = [0, 0, 0, 1, 1, 1, 0, 1], [0.1, 0.2, 0.6, 0.5, 0.7, 0.9, 0.99, 0.01]
    table = pd.concat([scored(truth, good), scored(truth[:6], [0.3, 0.1, 0.5, 0.4, 0.2, 0.9], arm="radiomics")])
    found = compare_arms(table, "radiomics", AREAS, SETTINGS).iloc[0]
    assert found["n"] == 6
    assert found["difference"] == pytest.approx(8 / 9 - 6 / 9)
    assert compare_arms(table, "federated", AREAS, SETTINGS)["difference"].iloc[0] == pytest.approx(-2 / 9)


def test_the_mean_areas_difference_is_paired():
    _, _, reference = subtypes(seed=0)
    noise = np.random.default_rng(5).uniform(0.98, 1.0, (len(reference), 4))
    scores = [f"score_{name}" for name in CLASSES]
    similar = reference.assign(arm="federated:axial", **(reference[scores] * noise))
    other = subtypes(seed=7, arm="radiomics", pull=0.3)[2]
    table = pd.concat([reference, similar, other])
    found = compare_arms(table, "federated", AREAS, SETTINGS).set_index(["arm", "metric"])
    near, far = found.loc[("federated:axial", "auc_macro")], found.loc[("radiomics", "auc_macro")]
    areas = {key[0]: row for key, row in summarise(table).items() if key[3] == "auc_macro"}
    assert near["difference"] == pytest.approx(areas["federated:axial"].value - areas["federated"].value)
    assert far["difference"] == pytest.approx(areas["radiomics"].value - areas["federated"].value)
    # The same patients in both: arms that agree differ by less than either spreads.
    assert near["high"] - near["low"] < 0.2 * (areas["federated"].ci_high - areas["federated"].ci_low)
    assert far["low"] < far["difference"] < far["high"] < 0
    back = compare_arms(table[table["arm"] != "federated:axial"], "radiomics", AREAS, SETTINGS).set_index("metric")
    np.testing.assert_allclose(back.loc["auc_macro", ["low", "high"]].to_numpy(float), [-far["high"], -far["low"]])
    family = found["p"].dropna()
    assert len(family) == 8
    assert (found.loc[family.index, "p_holm"] >= family).all()


def test_a_comparison_over_two_centres_keeps_each_centres_number_of_patients():
    reference, other = (
        pd.concat(
            [subtypes(n, seed=seed, arm=arm, centre=centre)[2] for n, centre in ((12, "centre-e"), (50, "centre-f"))]
        )
        for seed, arm in ((0, "federated"), (1, "radiomics"))
    )
    found = (
        compare_arms(pd.concat([reference, other]), "federated", AREAS, SETTINGS, seed=4)
        .set_index("metric")
        .loc["auc_macro"]
    )
    wide = [part.sort_values("case") for part in (reference, other)]
    truth, score = ([f"{part}_{name}" for name in CLASSES] for part in ("truth", "score"))

    def difference(values, weights):
        parts = [[weighted_auc(values[:, [4 + i, offset + i]], weights) for i in range(4)] for offset in (8, 0)]
        return np.mean(parts[0], axis=0) - np.mean(parts[1], axis=0)

    values = np.column_stack([wide[0][score], wide[0][truth], wide[1][score]])
    centres = ["centre-e"] * 12 + ["centre-f"] * 50
    seed = derive_seed(4, "comparison")
    expected = bootstrap_patients(values, wide[0]["case"].tolist(), difference, n=500, seed=seed, strata=centres)
    assert found[["difference", "low", "high"]].tolist() == pytest.approx(
        [expected.value, expected.low, expected.high], abs=1e-12
    )
    assert found["n"] == 62


def test_with_two_cases_a_patient_p_is_that_of_the_patients():
    truth, a, b = (np.asarray(GOLDEN[name], float) for name in ("truth", "a", "b"))
    once = compare_arms(pair(), "radiomics", AREAS, SETTINGS).iloc[0]
    patients = [f"p{index // 2:02d}" for index in range(40)]
    twice = pd.concat([
        scored(np.repeat(truth, 2), np.repeat(a, 2), patients=patients),
        scored(np.repeat(truth, 2), np.repeat(b, 2), patients=patients, arm="radiomics"),
    ])  # fmt: skip
    found = compare_arms(twice, "radiomics", AREAS, SETTINGS).iloc[0]
    assert found["difference"] == pytest.approx(once["difference"])
    assert found["p"] == pytest.approx(once["p"], abs=0.06)  # DeLong on the 40 cases would say 0.12
    assert found["high"] - found["low"] == pytest.approx(once["high"] - once["low"], rel=0.2)


def test_an_arm_that_orders_the_cases_alike_does_not_differ():
    table = pair().query("arm == 'federated'")
    found = compare_arms(
        pd.concat([table, table.assign(arm="fusion", score_er=table["score_er"] ** 2)]), "fusion", AREAS, SETTINGS
    )
    assert found[["difference", "p", "p_holm"]].to_numpy(float).tolist() == [[0.0, 1.0, 1.0]]
    doubled = table.assign(case=table["case"] + "-R")
    both = pd.concat([table, doubled])
    twins = pd.concat([both, both.assign(arm="fusion")])
    assert compare_arms(twins, "fusion", AREAS, SETTINGS)[["difference", "p"]].to_numpy(float).tolist() == [[0.0, 1.0]]


def test_ki67_alone_and_a_lone_arm_give_an_empty_comparison():
    found = compare_arms(scored([10.0, 20.0], [10.0, 30.0], label=KI67), "federated", AREAS, SETTINGS)
    assert found.empty
    assert tuple(found.columns) == COMPARISON


def test_a_comparison_that_cannot_be_meant_is_refused():
    with pytest.raises(RunError, match="arm 'pooled'"):
        compare_arms(pair(), "pooled", AREAS, SETTINGS)
    two = pd.concat([pair(), pair().assign(model_hash="def")])
    with pytest.raises(RunError, match="one model for each arm"):
        compare_arms(two, "radiomics", AREAS, SETTINGS)


def test_the_order_of_the_table_has_no_say():
    table = together(subtypes()[2], subtypes(seed=1, arm="radiomics")[2], pair("er"), pair("pr"))
    shuffled = table.sample(frac=1.0, random_state=2)
    pd.testing.assert_frame_equal(
        compare_arms(table, "federated", AREAS, SETTINGS), compare_arms(shuffled, "federated", AREAS, SETTINGS),
        check_exact=True,
    )  # fmt: skip
