"""Held-out centres pooled: the rows against the pooling of their own figures."""

import numpy as np
import pytest

from server.evaluation.study_statistics.analysis import pooled
from server.evaluation.study_statistics.estimates import SeedMean
from shared.cohort.labels import SUBTYPES
from shared.metrics.intervals import bootstrap_patients, weighted_mean
from shared.metrics.random_effects import random_effects, random_effects_of_auc
from shared.reproducibility import derive_seed
from shared.tasks import task_named
from tests.server.evaluation.study_statistics.invented_studies import cohort, only, outlined, scored, study

DICE = task_named("lesion-segmentation").headline
AREA = task_named("receptor-status").headline
SPREAD = np.random.default_rng(0).normal(0, 1, 500)


def figure(value, error):
    draws = value + error * (SPREAD - SPREAD.mean()) / SPREAD.std(ddof=1)
    return SeedMean(value, draws, 40, 40, 1, ranked=True, note="")


def test_estimates_are_pooled_with_the_deviation_of_their_resamples():
    values, errors = [0.6, 0.7, 0.75, 0.8], [0.03, 0.02, 0.05, 0.01]
    by_centre = {name: figure(*item) for name, item in zip("abcd", zip(values, errors, strict=True), strict=True)}
    wanted = random_effects(values, errors)
    found = pooled(DICE, "federated", by_centre, 0.95)
    assert (found["quantity"], found["metric"], found["unit"], found["k"]) == ("federated", "dice", "1", 4)
    for name in ("estimate", "ci_low", "ci_high", "pi_low", "pi_high", "tau2", "i2", "q", "q_p"):
        assert found[name] == pytest.approx(getattr(wanted, name)), name


def test_areas_go_by_their_logit_and_their_differences_do_not():
    by_centre = {"a": figure(0.7, 0.03), "b": figure(0.9, 0.02), "c": figure(0.8, 0.04)}
    values, errors = [0.7, 0.9, 0.8], [0.03, 0.02, 0.04]
    assert pooled(AREA, "pooled", by_centre, 0.95)["estimate"] == pytest.approx(
        random_effects_of_auc(values, errors).estimate
    )
    plain = random_effects(values, errors).estimate
    assert pooled(AREA, "federated-pooled", by_centre, 0.95)["estimate"] == pytest.approx(plain)
    assert plain != pytest.approx(random_effects_of_auc(values, errors).estimate, abs=1e-3)


def test_centres_without_a_figure_or_a_logit_are_left_out():
    by_centre = {"a": figure(0.7, 0.03), "b": figure(0.9, 0.02), "c": figure(np.nan, 0.1), "d": figure(1.0, 0.01)}
    assert pooled(AREA, "local", by_centre, 0.95)["k"] == 2
    assert pooled(DICE, "local", by_centre, 0.95)["k"] == 3
    assert np.isnan(pooled(AREA, "local", by_centre, 0.95)["pi_low"])
    still = {"a": figure(0.7, 0.03), "b": figure(0.7, 0.0)}
    assert pooled(DICE, "local", still, 0.95) is None


def test_a_studys_rows_pool_the_figures_of_its_centres():
    cases = cohort()
    table = outlined(cases, arms=("federated", "pooled"))
    found = study(table, cases)
    assert set(found.meta["quantity"]) == {"federated", "pooled", "federated-pooled"}
    assert set(found.meta["metric"]) == {"dice", "nsd", "hd95"}
    values, errors = [], []
    for centre in "abc":
        mine = table[(table["arm"] == "federated") & (table["centre"] == centre)].sort_values("case")
        kept = []

        def noted(values, weights, kept=kept):
            kept.append(weighted_mean(values, weights))
            return kept[-1]

        seed = derive_seed(0, "bootstrap", centre)
        values.append(bootstrap_patients(mine["dice"], mine["patient"].tolist(), noted, n=100, seed=seed).value)
        errors.append(kept[-1].std(ddof=1))
    row = only(found.meta, metric="dice", quantity="federated")
    wanted = random_effects(values, errors)
    assert row[["estimate", "ci_low", "ci_high"]].tolist() == pytest.approx(
        [wanted.estimate, wanted.ci_low, wanted.ci_high]
    )
    gap = only(found.meta, metric="dice", quantity="federated-pooled")
    differences = found.comparisons[(found.comparisons["metric"] == "dice") & (found.comparisons["centre"] != "all")]
    assert differences["difference"].min() < gap["estimate"] < differences["difference"].max()


def test_a_classifiers_areas_are_pooled_between_0_and_1():
    cases = cohort((30, 32))
    found = study(scored(cases, arms=("federated",)), cases, "subtype-ensemble").meta
    assert set(found["metric"]) == {"auc_macro", *(f"auc_{label}" for label in SUBTYPES)}
    assert found["ci_low"].min() > 0
    assert found["ci_high"].max() < 1
    assert (found["k"] == 2).all()
