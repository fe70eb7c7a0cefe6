"""Federated against other arms: paired differences and their tests."""

import itertools

import numpy as np
import pytest
from scipy import stats

from server.evaluation.study_statistics.analysis import analyse
from server.evaluation.study_statistics.contrasts import p_of_width, sign_flip
from server.evaluation.study_statistics.estimates import SeedMean
from shared.metrics.multiple_testing import adjust_p_values
from tests.server.evaluation.study_statistics.invented_studies import (
    NO_COHORT,
    NULL,
    by_hand,
    cohort,
    only,
    outline_study,
    outlined,
    scored,
    settings,
    study,
)

P = [0.001, 0.008, 0.039, 0.041, 0.042, 0.06, 0.074, 0.205]  # shared/statistics.md, golden values


def test_holm_and_benjamini_hochberg_are_the_golden_ones_and_absent_tests_do_not_count():
    with_gap = np.array([*P[:3], np.nan, *P[3:]])
    holm, bh = adjust_p_values(with_gap, "holm"), adjust_p_values(with_gap, "fdr_bh")
    assert np.isnan(holm[3])
    assert np.isnan(bh[3])
    assert np.delete(holm, 3) == pytest.approx([0.008, 0.056, *[0.234] * 6])
    assert np.delete(bh, 3) == pytest.approx([0.008, 0.032, *[0.0672] * 3, 0.08, 0.08457142857, 0.205])
    assert np.isnan(adjust_p_values(np.array([np.nan, np.nan]), "holm")).all()


def test_few_patients_have_the_exact_test_of_all_signs():
    parts = np.array([0.3, -0.1, 0.25, 0.4, -0.05, 0.2])
    sums = [abs(np.dot(signs, parts)) for signs in itertools.product((-1, 1), repeat=6)]
    assert sign_flip(parts) == pytest.approx(np.mean(np.array(sums) >= abs(parts.sum()) - 1e-12))
    assert sign_flip(np.zeros(5)) == 1.0
    assert np.isnan(sign_flip(np.array([0.4])))


def test_many_patients_have_nearly_the_test_of_a_normal_mean():
    parts = np.random.default_rng(1).normal(0.15, 1, 150)
    wanted = 2 * stats.norm.sf(abs(parts.sum()) / np.sqrt(np.square(parts).sum()))
    assert 0.01 < wanted < 0.5
    assert sign_flip(parts) == pytest.approx(wanted, abs=0.02)
    assert sign_flip(parts) == sign_flip(parts)


def test_without_a_difference_p_is_spread_evenly():
    rng = np.random.default_rng(0)
    found = np.array([sign_flip(rng.normal(0, 1, 9)) for _ in range(300)])
    assert stats.kstest(found, "uniform").pvalue > 0.01
    assert 0.02 < (found <= 0.05).mean() < 0.09


def figure(value, draws):
    return SeedMean(value, np.asarray(draws, float), 30, 30, 1, ranked=True, note="")


def test_p_of_a_width_is_that_of_a_normal_estimate():
    spread = stats.norm.ppf((np.arange(2000) + 0.5) / 2000)
    for z in (0.0, 1.0, 2.5):
        assert p_of_width(figure(0.1 * z, 0.1 * z + 0.1 * spread), 0.95) == pytest.approx(
            2 * stats.norm.sf(z), rel=0.03
        )
    assert p_of_width(figure(0.0, np.zeros(100)), 0.95) == 1.0
    assert np.isnan(p_of_width(figure(0.1, np.full(100, 0.1)), 0.95))
    assert np.isnan(p_of_width(figure(0.1, np.full(100, np.nan)), 0.95))


def test_a_known_difference_is_found_with_its_sign():
    dice = np.random.default_rng(2).uniform(0.3, 0.8, 15)
    arms = {"federated": 0.05, "pooled": 0.07, "local:b": 0.0}
    rows = [(f"a-p{i:02d}-e-L", arm, 0, dice[i] + gain) for i in range(15) for arm, gain in arms.items()]
    found = study(by_hand(rows), NO_COHORT).comparisons
    for arm, wanted in (("pooled", -0.02), ("local:b", 0.05), ("local", 0.05)):
        mine = only(found, metric="dice", centre="all", arm=arm)
        assert mine[["difference", "ci_low", "ci_high"]].tolist() == pytest.approx([wanted] * 3)
        assert mine["p"] < 0.001
        assert mine["n"] == 15
        same = only(found, metric="hd95", centre="all", arm=arm)
        assert (same["difference"], same["p"]) == (0.0, 1.0)


def test_differences_are_paired_case_by_case_and_seed_by_seed():
    nothing = float("nan")
    values = {
        ("a-p1-e-L", "federated", 0): 1.0, ("a-p1-e-L", "pooled", 0): 3.0,
        ("a-p2-e-L", "federated", 0): 9.0, ("a-p2-e-L", "pooled", 0): nothing,
        ("a-p3-e-L", "federated", 0): 2.0, ("a-p3-e-L", "pooled", 0): 8.0,
        ("a-p1-e-L", "federated", 1): 5.0, ("a-p1-e-L", "pooled", 1): 6.0,
        ("a-p3-e-L", "federated", 1): 7.0, ("a-p2-e-L", "pooled", 1): 1.0,
    }  # fmt: skip
    table = by_hand([(*key, 0.5, value) for key, value in values.items()])
    mine = only(study(table, NO_COHORT).comparisons, metric="hd95", centre="all", arm="pooled")
    assert mine["difference"] == pytest.approx((((1 - 3) + (2 - 8)) / 2 + (5 - 6)) / 2)
    assert mine["n"] == 2


def test_a_paired_interval_is_narrower_than_either_arms_own():
    dice = np.linspace(0.2, 0.8, 25)
    noise = np.random.default_rng(3).normal(0, 0.02, 25)
    rows = [(f"a-p{i:02d}-e-L", arm, 0, dice[i] + (arm == "pooled") * noise[i]) for i in range(25)
            for arm in ("federated", "pooled")]  # fmt: skip
    found = study(by_hand(rows), NO_COHORT)
    mine = only(found.comparisons, metric="dice", centre="all", arm="pooled")
    alone = only(found.summary, metric="dice", centre="all", arm="federated")
    assert 0 < mine["ci_high"] - mine["ci_low"] < 0.3 * (alone["ci_high"] - alone["ci_low"])


def test_a_patients_cases_change_sides_together():
    rows = [(f"a-p{i}-e-{side}", arm, 0, 0.5 + 0.1 * (arm == "federated")) for i in range(4) for side in "LR"
            for arm in ("federated", "pooled")]  # fmt: skip
    mine = only(study(by_hand(rows), NO_COHORT).comparisons, metric="dice", centre="all", arm="pooled")
    assert mine["p"] == pytest.approx(2 / 2**4)


def test_with_complete_cases_a_difference_is_that_of_the_summary():
    found = outline_study()
    for metric, arm, centre in itertools.product(("dice", "nsd", "lesion_f1"), ("ensemble", "local"), ("all", "b")):
        both = [
            only(found.summary, metric=metric, arm=name, centre=centre, role="external") for name in ("federated", arm)
        ]
        mine = only(found.comparisons, metric=metric, arm=arm, centre=centre)
        assert mine["difference"] == pytest.approx(both[0]["value"] - both[1]["value"])
        assert mine["ci_low"] < mine["difference"] < mine["ci_high"]


def test_a_local_model_is_compared_on_the_centres_that_it_never_saw():
    found = outline_study().comparisons
    sizes = cohort()["centre"].value_counts()
    assert only(found, metric="dice", centre="all", arm="local:a")["n"] == sizes.drop("a").sum()
    assert found[(found["centre"] == "a") & (found["arm"] == "local:a")].empty
    assert set(found["metric"]) == {"dice", "hd95", "nsd", "lesion_f1"}
    assert set(found["centre"]) == {"all", "a", "b", "c"}


def test_holms_family_is_the_first_metric_of_each_task_at_all_centres():
    cases = cohort((24, 26))
    first, second = outlined(cases, NULL, folds=("a", "b")), scored(cases, NULL, threshold=0.5)
    tasks = ("lesion-segmentation", "subtype-ensemble")
    tables = dict(zip(tasks, (first, second), strict=True))
    found = analyse(tables, cases, settings(*tasks)).comparisons
    family = found[found["primary"]]
    assert set(zip(family["metric"], family["centre"], strict=True)) == {("dice", "all"), ("auc_macro", "all")}
    assert sorted(family["arm"]) == sorted(["local", "local:a", "local:b"] * 2)
    order = np.sort(family["p"].to_numpy())
    wanted = np.minimum(1, np.maximum.accumulate(order * np.arange(len(order), 0, -1)))
    assert np.sort(family["p_holm"].to_numpy()) == pytest.approx(wanted)
    assert found[~found["primary"]]["p_holm"].isna().all()
    assert found[~found["primary"]]["p"].notna().any()


def test_an_area_is_compared_by_the_width_of_its_paired_interval():
    cases = cohort((40, 40))
    table = scored(cases, {"federated": 0.1, "pooled": -0.03}, arms=("federated", "pooled"))
    mine = only(study(table, cases, "subtype-ensemble").comparisons, metric="auc_macro", centre="all", arm="pooled")
    error = (mine["ci_high"] - mine["ci_low"]) / (2 * 1.959964)
    assert mine["p"] == pytest.approx(2 * stats.norm.sf(mine["difference"] / error), rel=1e-4)
    assert mine["difference"] > 0.1
    assert mine["p"] < 0.01
