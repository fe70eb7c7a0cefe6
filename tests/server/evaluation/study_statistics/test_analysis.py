"""Tables of a study against hand calculations and against the figures of a single run."""

import functools

import numpy as np
import pandas as pd
import pytest

from server.evaluation.metric_rows import table_rows
from server.evaluation.study_statistics.analysis import analyse
from shared.cohort.labels import SUBTYPES
from shared.metrics.intervals import bootstrap_patients
from shared.tasks import task_named
from tests.server.evaluation.study_statistics.invented_studies import (
    NO_COHORT,
    by_hand,
    cohort,
    only,
    outline_study,
    outlined,
    outlines,
    scored,
    settings,
    study,
    tissues,
)

SUBTYPE = "subtype-ensemble"


@functools.cache
def subtype_study():
    """Both roles; the ensemble has no thresholds."""
    arms = ("federated", "ensemble", "local")
    table = scored(cohort((24, 26)), threshold=0.4, arms=arms, roles=("external", "test"))
    return table, study(table, cohort((24, 26)), SUBTYPE)


def run_rows(cases, task):
    """A run's rows of one model's cases, by metric."""
    metrics, config = task_named(task).metrics, settings().evaluation
    return {item.metric: item for item in table_rows(cases, metrics, config, task=task, seed=0, role="external")}


def row(found, metric="dice", arm="federated", centre="all", role="external"):
    return only(found.summary, metric=metric, arm=arm, centre=centre, role=role)


def test_a_figure_is_the_mean_of_each_seeds_mean():
    table = by_hand([(f"a-p{i}-e-L", "federated", seed, 0.1 * i + 0.2 * seed) for i in range(4) for seed in (0, 1)])
    found = row(study(table, NO_COHORT))
    assert found["value"] == pytest.approx((0.15 + 0.35) / 2)
    assert (found["n"], found["patients"], found["seeds"], found["unit"]) == (4, 4, 2, "1")


def test_a_case_undefined_in_one_seed_is_missing_from_that_seed_alone():
    distances = {("a-p1-e-L", 0): 2.0, ("a-p2-e-L", 0): 4.0, ("a-p1-e-L", 1): 5.0, ("a-p2-e-L", 1): np.nan}
    table = by_hand([(case, "federated", seed, 0.5, value) for (case, seed), value in distances.items()])
    found = row(study(table, NO_COHORT), "hd95")
    assert found["value"] == pytest.approx(((2 + 4) / 2 + 5) / 2)
    assert found["n"] == 2
    lacking = study(table[(table["seed"] == 0) | (table["case"] == "a-p2-e-L")], NO_COHORT)
    assert (row(lacking, "hd95")["value"], row(lacking, "hd95")["seeds"], row(lacking)["seeds"]) == (3.0, 1, 2)


def test_one_seed_at_one_centre_is_what_a_run_writes():
    table = outlines()[outlines()["seed"] == 0]
    found, names = (
        study(table, cohort()),
        ("dice", "nsd", "lesion_f1", "volume_icc_a1", "volume_limit_low", "sensitivity"),
    )
    chosen = table[(table["arm"] == "federated") & (table["centre"] == "b")]
    rows = run_rows(chosen, "lesion-segmentation")
    for metric in names:
        figure = row(found, metric, centre="b")
        wanted = [getattr(rows[metric], name) for name in ("value", "ci_low", "ci_high", "n")]
        assert figure[["value", "ci_low", "ci_high", "n"]].tolist() == pytest.approx(wanted, abs=1e-12)
    assert row(found, "hd95", centre="b")["value"] == pytest.approx(rows["hd95"].value)
    assert row(found, "failures", centre="b")["value"] == rows["failures"].value
    kept = found.results[(found.results["arm"] == "federated") & (found.results["centre"] == "b")]
    assert dict(zip(kept["metric"], kept["value"], strict=True)) == {name: item.value for name, item in rows.items()}
    assert set(kept["model_hash"]) == {"federated-b-0"}


def test_one_seed_of_a_classifier_is_what_a_run_writes():
    table, found = subtype_study()
    chosen = table[(table["arm"] == "federated") & (table["centre"] == "b") & (table["role"] == "external")]
    wanted = run_rows(chosen, SUBTYPE)
    for label in SUBTYPES:
        for metric in (f"auc_{label}", "auc_macro", f"brier_{label}"):
            figure = row(found, metric, centre="b")
            bounds = [getattr(wanted[metric], name) for name in ("value", "ci_low", "ci_high", "n")]
            assert figure[["value", "ci_low", "ci_high", "n"]].tolist() == pytest.approx(bounds, abs=1e-12)
        for name in ("sensitivity", "specificity", "ppv", "npv", "ece", "prevalence"):
            metric = f"{name}_{label}"
            assert row(found, metric, centre="b")["value"] == pytest.approx(wanted[metric].value, abs=1e-12)
    kept = found.results[(found.results["arm"] == "federated") & (found.results["role"] == "external")]
    kept = kept[kept["centre"] == "b"].set_index("metric")
    assert kept["value"].dropna().to_dict() == {n: item.value for n, item in wanted.items() if item.value is not None}
    assert kept.loc["sensitivity_luminal_a", "ci_low"] == wanted["sensitivity_luminal_a"].ci_low


def test_calibration_is_averaged_over_seeds_without_an_interval():
    table = scored(cohort((40, 41)), labels=("er",), seeds=(0, 1), arms=("federated",))
    found = study(table, NO_COHORT, "receptor-status")
    parts = found.results[(found.results["centre"] == "a") & (found.results["metric"] == "calibration_slope_er")]
    assert len(parts) == 2
    assert parts["value"].nunique() == 2
    figure = row(found, "calibration_slope_er", centre="a")
    assert figure["value"] == pytest.approx(parts["value"].mean())
    assert np.isnan(figure["ci_low"])


def test_one_seed_of_tissues_is_what_a_run_writes():
    table = tissues(cohort())
    found = study(table, cohort(), "breast-segmentation")
    rows = run_rows(table[(table["arm"] == "federated") & (table["centre"] == "c")], "breast-segmentation")
    for metric in (
        "dice_fibroglandular",
        "dice_breast",
        "hd95_breast",
        "mae_density",
        "bias_density",
        "icc_a1_density",
    ):
        figure, wanted = row(found, metric, centre="c"), rows[metric]
        bounds = [wanted.value, wanted.ci_low, wanted.ci_high, wanted.n]
        assert figure[["value", "ci_low", "ci_high", "n"]].tolist() == pytest.approx(bounds, abs=1e-12)
    assert set(found.subgroups["metric"]) == {"dice_fibroglandular"}
    assert set(found.comparisons["metric"]) == {"dice_fibroglandular", "dice_breast"}


def test_centres_together_are_a_mean_over_cases_and_drawn_within_centres():
    level = {"a": 0.2, "b": 0.6, "c": 0.9}
    cases = [f"{centre}-p{i}-e-L" for centre, size in (("a", 3), ("b", 5), ("c", 12)) for i in range(size)]
    table = by_hand([(case, "federated", 0, level[case[0]]) for case in cases])
    found = row(study(table, NO_COHORT))
    assert found["value"] == pytest.approx((3 * 0.2 + 5 * 0.6 + 12 * 0.9) / 20)
    # Nothing varies within a centre: patients drawn across centres would give an interval of some width.
    assert found["ci_high"] - found["ci_low"] == pytest.approx(0, abs=1e-12)


def test_the_interval_of_all_centres_is_that_of_a_stratified_bootstrap():
    table = outlines()[(outlines()["arm"] == "federated") & (outlines()["seed"] == 0)].sort_values("case")
    found = row(study(table, NO_COHORT, bootstrap=4000))
    wanted = bootstrap_patients(
        table["dice"], table["patient"].tolist(), n=4000, seed=5, strata=table["centre"].tolist()
    )
    width = wanted.high - wanted.low
    assert found["value"] == pytest.approx(wanted.value)
    assert found["ci_low"] == pytest.approx(wanted.low, abs=0.08 * width)
    assert found["ci_high"] == pytest.approx(wanted.high, abs=0.08 * width)


def test_another_seed_or_another_case_of_a_patient_is_no_new_patient():
    table = by_hand([(f"a-p{i}-e-L", "federated", 0, 0.05 * (i * 7 % 13)) for i in range(13)])
    once = row(study(table, NO_COHORT))
    assert once["ci_high"] - once["ci_low"] > 0.1
    bounds = once[["value", "ci_low", "ci_high", "patients"]].tolist()
    seeds = row(study(pd.concat([table, table.assign(seed=1), table.assign(seed=2)]), NO_COHORT))
    assert seeds[["value", "ci_low", "ci_high", "patients"]].tolist() == pytest.approx(bounds)
    assert (seeds["n"], seeds["seeds"]) == (13, 3)
    other = table.assign(case=table["case"].str.replace("-L", "-R"))
    sides = row(study(pd.concat([table, other]), NO_COHORT))
    assert sides[["value", "ci_low", "ci_high", "patients"]].tolist() == pytest.approx(bounds)
    assert sides["n"] == 26


def test_seeds_are_averaged_under_the_same_resamples():
    swing = [(-1) ** i * 0.02 * i for i in range(12)]
    rows = [(f"a-p{i:02d}-e-L", "federated", seed, 0.5 + sign * swing[i])
            for i in range(12) for seed, sign in ((0, 1), (1, -1))]  # fmt: skip
    found = row(study(by_hand(rows), NO_COHORT))
    # What one seed gains on a patient the other loses: the mean of both does not vary.
    assert found[["value", "ci_low", "ci_high"]].tolist() == pytest.approx([0.5] * 3)


def test_local_is_the_mean_over_the_local_models_of_a_cases_fold():
    dice = {
        "a-p1-e-L": {"b": 0.2, "c": 0.6}, "b-p1-e-L": {"a": 0.9}, "b-p2-e-L": {"a": 0.3},
        "c-p1-e-L": {"a": 0.1, "b": 0.3, "d": 0.8},
    }  # fmt: skip
    table = by_hand([(case, f"local:{at}", 0, value) for case, by in dice.items() for at, value in by.items()])
    found = study(table, NO_COHORT)
    assert row(found, arm="local")["value"] == pytest.approx((0.4 + 0.9 + 0.3 + 0.4) / 4)
    assert row(found, arm="local", centre="a")["value"] == pytest.approx(0.4)
    assert row(found, arm="local")["n"] == 4
    assert row(found, arm="local:a")["value"] == pytest.approx((0.9 + 0.3 + 0.1) / 3)
    assert (row(found, arm="local:a")["n"], row(found, arm="local:d")["n"]) == (3, 1)
    assert "local" not in set(found.results["arm"])


def test_a_ratio_is_averaged_over_local_models_and_not_pooled_over_them():
    table = by_hand([(f"a-p{i}-e-L", f"local:{at}", 0, 0.5) for i in range(2) for at in "bc"])
    table["lesions_fp"] = (table["arm"] == "local:b") * 3
    assert row(study(table, NO_COHORT), "lesion_f1", "local")["value"] == pytest.approx((4 / (4 + 6) + 1) / 2)


def test_test_cases_are_averaged_over_the_folds_that_evaluate_them():
    first = by_hand([(f"a-p{i}-e-L", "federated", 0, 0.4) for i in range(11)]).assign(held_out="b")
    second = by_hand([(f"a-p{i}-e-L", "federated", 0, 0.8) for i in range(5)]).assign(held_out="c", model_hash="other")
    found = study(pd.concat([first, second]).assign(role="test"), NO_COHORT)
    figure = row(found, centre="a", role="test")
    assert (figure["value"], figure["n"], figure["patients"]) == (pytest.approx(0.6), 11, 11)
    assert set(found.summary["centre"]) == {"a"}
    assert found.comparisons.empty
    assert set(found.results["role"]) == {"test"}
    assert found.results.groupby(["metric", "model_hash"]).size().eq(1).all()


def test_a_local_model_that_several_folds_share_has_its_test_rows_once():
    table = by_hand([(f"a-p{i}-e-L", "local:a", 0, 0.4) for i in range(4)]).assign(role="test")
    found = study(pd.concat([table.assign(held_out="b"), table.assign(held_out="c")]), NO_COHORT)
    assert only(found.results, metric="dice")["n"] == 4


def test_rows_of_all_centres_stand_beside_those_of_each_model():
    found = outline_study().results
    chosen = found[(found["metric"] == "dice") & (found["arm"] == "federated") & (found["seed"] == 1)]
    assert chosen["centre"].tolist() == ["a", "b", "c", "all"]
    each, together = chosen.iloc[:-1], chosen.iloc[-1]
    assert together["n"] == each["n"].sum() == len(cohort())
    assert together["value"] == pytest.approx(np.average(each["value"], weights=each["n"]))
    assert together["model_hash"] == ""


def test_the_order_of_rows_has_no_say():
    found, shuffled = outline_study(), outlines().sample(frac=1.0, random_state=3)
    again = study(shuffled, cohort().sample(frac=1.0, random_state=4))
    for name in ("results", "summary", "comparisons", "meta", "subgroups"):
        pd.testing.assert_frame_equal(getattr(found, name), getattr(again, name), check_exact=True)


def test_other_names_of_centres_leave_the_figures():
    names = ("z", "y", "x")
    other = study(outlined(cohort(centres=names), seeds=(0, 1), arms=("federated", "ensemble", "local")), NO_COHORT)
    back = dict(zip(names, "abc", strict=True)) | {"all": "all"}
    for mine in outline_study().summary.itertuples():
        if mine.metric in {"dice", "hd95", "sensitivity"} and mine.arm in {"federated", "local", "ensemble"}:
            place = next(name for name, old in back.items() if old == mine.centre)
            assert row(other, mine.metric, mine.arm, place)["value"] == pytest.approx(mine.value)
            assert row(other, mine.metric, mine.arm, place)["n"] == mine.n


def test_an_ensemble_without_thresholds_has_areas_alone():
    _, found = subtype_study()
    mine = found.summary[found.summary["arm"] == "ensemble"]["metric"]
    assert "auc_macro" in set(mine)
    assert not mine.str.startswith(("sensitivity", "specificity", "ppv", "npv")).any()


def test_tasks_keep_the_configurations_order_and_one_without_cases_has_no_rows():
    table = by_hand([(f"a-p{i}-e-L", "federated", 0, 0.5) for i in range(3)])
    config = settings("receptor-status", "lesion-segmentation", "breast-segmentation")
    tables = {
        "lesion-segmentation": table,
        "breast-segmentation": tissues(cohort()).iloc[:0],
        "receptor-status": scored(cohort((3, 3)), labels=("er",), folds=("a",)),
    }
    found = analyse(tables, NO_COHORT, config)
    assert list(dict.fromkeys(found.summary["task"])) == ["receptor-status", "lesion-segmentation"]


def test_an_infinite_figure_is_one_that_does_not_exist():
    table = by_hand([("a-p1-e-L", "federated", 0, 0.5), ("a-p2-e-L", "federated", 0, 0.5)])
    volumes = {"volume_ml": [1.0, 0.0], "reference_volume_ml": [0.0, 1.0]}  # the correlation's denominator is 0
    found = study(table.assign(**volumes), NO_COHORT)
    for rows in (found.summary, found.results):
        value = only(rows, metric="volume_icc_a1", arm="federated", centre="all", role="external")["value"]
        assert np.isnan(value)
    assert row(found, "volume_icc_a1")["note"] == "undefined"
