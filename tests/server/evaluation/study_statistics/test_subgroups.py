"""Exploratory subgroups: their levels, figures and differences."""

import numpy as np
import pandas as pd
import pytest

from server.evaluation.study_statistics.subgroups import levels
from shared.metrics.multiple_testing import adjust_p_values
from tests.server.evaluation.study_statistics.invented_studies import (
    cohort,
    only,
    outline_study,
    outlined,
    outlines,
    study,
)


def found():
    return outline_study().subgroups


def test_subgroups_of_a_factor_add_up_to_all_cases():
    for _, rows in found().groupby(["factor", "arm"]):
        assert rows["n"].sum() == len(cohort())
    assert list(dict.fromkeys(found()["factor"])) == ["manufacturer", "field_strength_t", "density", "age_band", "size"]
    assert set(found()["arm"]) == {"federated", "local"}
    assert set(found()["metric"]) == {"dice"}


def test_a_subgroups_figure_is_that_of_its_cases():
    table, cases = outlines(), cohort()
    chosen = table[table["case"].isin(cases[cases["density"] == "b"]["case"])]
    federated = chosen[chosen["arm"] == "federated"]
    mine = only(found(), factor="density", level="b", arm="federated")
    assert mine["value"] == pytest.approx(federated["dice"].mean())
    assert (mine["n"], mine["patients"]) == (federated["case"].nunique(), federated["patient"].nunique())
    assert mine["ci_low"] < mine["value"] < mine["ci_high"]
    local = only(found(), factor="density", level="b", arm="local")
    assert local["value"] == pytest.approx(chosen[chosen["arm"].str.startswith("local:")]["dice"].mean())
    assert mine["difference"] == pytest.approx(mine["value"] - local["value"])
    assert mine["difference_low"] < mine["difference"] < mine["difference_high"]
    assert np.isnan(local["difference"])


def test_a_gain_in_one_subgroup_alone_is_found_there():
    cases = cohort()
    table = outlined(cases)
    dense = table["case"].isin(cases[cases["density"] == "d"]["case"]) & (table["arm"] == "federated")
    noise = np.random.default_rng(0).normal(0.6, 0.02, len(table))
    rows = study(table.assign(dice=noise + 0.1 * dense), cases).subgroups
    gain = rows[(rows["factor"] == "density") & (rows["arm"] == "federated")].set_index("level")
    assert gain.loc["d", "p_bh"] < 0.02
    assert gain.loc["d", "difference"] > 0.05
    assert gain.drop("d")["difference"].abs().max() < 0.05


def test_benjamini_and_hochbergs_family_counts_each_difference_once():
    tested = found()[found()["arm"] == "federated"]
    assert tested["p_bh"].to_numpy() == pytest.approx(adjust_p_values(tested["p"].to_numpy(), "fdr_bh"))
    assert len(tested) == 3 + 3 + 4 + 3 + 3
    assert found()[found()["arm"] == "local"][["p", "p_bh"]].isna().all().all()


def named(cases):
    """Levels by factor, with the number of cases of each."""
    sizes: dict[str, dict[str, int]] = {}
    for factor, level, keep in levels(cases):
        sizes.setdefault(factor, {})[level] = int(keep.sum())
    return sizes


def test_levels_stand_in_their_order_and_the_unknown_last():
    order = {factor: list(sizes) for factor, sizes in named(cohort()).items()}
    assert order["manufacturer"] == ["GE", "SIEMENS", "unknown"]
    assert order["field_strength_t"] == ["1.5", "3.0", "unknown"]
    assert order["age_band"] == ["<50", "50-69", ">=70"]
    assert order["density"] == ["a", "b", "c", "d"]


def test_sizes_are_tertiles_named_by_their_bounds():
    volumes = [3.0, 0.4, 1.0, 9.0, 2.0, 30.2, np.nan]
    frame = pd.DataFrame({"case": [*"abcdefg"], "reference_volume_ml": volumes})
    assert named(frame) == {"size": {"0.4-1.7 ml": 2, "1.7-5.0 ml": 2, "5.0-30.2 ml": 2, "unknown": 1}}
    small = frame.assign(reference_volume_ml=np.array(volumes) / 1000)
    assert list(named(small)["size"])[:3] == ["0.000-0.002 ml", "0.002-0.005 ml", "0.005-0.030 ml"]


def test_a_factor_with_one_level_or_unknown_throughout_makes_no_subgroups():
    frame = pd.DataFrame(
        {"case": [*"abc"], "density": ["a"] * 3, "age_band": ["", None, ""], "manufacturer": ["GE", "GE", None]}
    )
    assert named(frame) == {"manufacturer": {"GE": 2, "unknown": 1}}


def test_cases_that_the_cohort_lacks_are_unknown():
    rows = study(outlined(cohort(), folds=("a",)), cohort().iloc[5:]).subgroups
    assert only(rows, factor="density", level="unknown", arm="federated")["n"] == 5


def test_thin_subgroups_are_not_ranked():
    cases = cohort().assign(density=["a"] * 5 + ["b"] * (len(cohort()) - 5))
    rows = study(outlined(cases, folds=("a",)), cases).subgroups
    ranked = rows[rows["factor"] == "density"].set_index(["arm", "level"])["ranked"]
    assert not ranked["federated", "a"]
    assert ranked["federated", "b"]
