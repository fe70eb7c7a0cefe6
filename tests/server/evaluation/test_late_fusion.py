"""Late fusion by hand: the geometric mean of two models' probabilities, renormalised, on the cases of both."""

import numpy as np
import pandas as pd
import pytest

from server.evaluation.classification_rows import COLUMNS, classification_rows
from server.evaluation.late_fusion import FUSION, TABLE, fuse, fuse_centre
from server.run_folder.predictions import read_predictions, score_table, write_predictions
from server.run_folder.results import ResultRow
from shared.config.run_config import load_config
from shared.metrics.score_sums import SUBTYPES

CONFIG = """
name = "rivals"
tasks = ["subtype-ensemble", "subtype-radiomics"]
seed = 3

[data]
root = "data/phantom"
sites = ["centre-a", "centre-b"]
external = "centre-d"

[evaluation]
bootstrap = 100
"""
CHOSEN = {"subtype-ensemble": "e", "subtype-radiomics": "r"}


def answers(scores, *, truth=(0, 1, 2, 3), model_hash="e", arm="federated", names=None):
    """Cases with the given probabilities of the four subtypes."""
    cases = [
        (
            f"centre-d-{name:03d}-e-L",
            {label: float(truth[index] == place) for place, label in enumerate(SUBTYPES)},
            dict(zip(SUBTYPES, row, strict=True)),
        )
        for index, (name, row) in enumerate(zip(names or range(len(scores)), scores, strict=True))
    ]
    return score_table(cases, centre="centre-d", arm=arm, model_hash=model_hash)


def drawn(n, seed, **changes):
    truth = np.random.default_rng(n).integers(0, 4, n)
    return answers(np.random.default_rng(seed).dirichlet(np.ones(4), n), truth=truth, **changes)


def wide(table):
    return table.pivot_table("score", "case", "label")[list(SUBTYPES)].to_numpy()


def test_two_models_are_fused_as_by_hand():
    first = answers([(0.64, 0.16, 0.16, 0.04), (0.25, 0.25, 0.25, 0.25)])
    second = answers([(0.25, 0.25, 0.25, 0.25), (0.7, 0.1, 0.1, 0.1)], model_hash="r")
    fused = fuse(first, second)
    # Roots 0.4, 0.2, 0.2, 0.1 add up to 0.9.
    np.testing.assert_allclose(wide(fused)[0], np.array([4, 2, 2, 1]) / 9)
    np.testing.assert_allclose(wide(fused)[1], np.sqrt([7, 1, 1, 1]) / (np.sqrt(7) + 3))
    assert list(fused.columns) == list(COLUMNS)
    assert set(fused["arm"]) == {FUSION}
    assert set(fused["model_hash"]) == {"e+r"}
    assert fused.loc[fused["truth"] == 1, ["case", "label"]].to_numpy().tolist() == [
        ["centre-d-000-e-L", "luminal_a"],
        ["centre-d-001-e-L", "luminal_b"],
    ]


def test_a_model_fused_with_itself_is_itself():
    table = drawn(40, 0)
    fused = fuse(table, table)
    np.testing.assert_allclose(fused["score"], table["score"], rtol=1e-12)
    pd.testing.assert_frame_equal(fused[["case", "label", "truth"]], table[["case", "label", "truth"]])


def test_neither_the_order_of_cases_nor_that_of_models_matters():
    first, second = drawn(40, 0), drawn(40, 1, model_hash="r")
    fused = fuse(first, second)
    shuffled = fuse(first.sample(frac=1, random_state=0), second.sample(frac=1, random_state=1))
    pd.testing.assert_frame_equal(fused, shuffled, check_exact=True)
    np.testing.assert_allclose(fuse(second, first)["score"], fused["score"], rtol=1e-12)
    np.testing.assert_allclose(wide(fused).sum(axis=1), 1.0)


def test_cases_that_only_one_model_judged_are_left_out():
    uniform = [(0.25,) * 4] * 3
    first, second = answers(uniform), answers(uniform, names=(1, 2, 3), truth=(1, 2, 3), model_hash="r")
    second = second[~((second["case"] == "centre-d-002-e-L") & (second["label"] == "luminal_b"))]
    assert set(fuse(first, second)["case"]) == {"centre-d-001-e-L"}
    assert fuse(first, second.head(0)).empty


def test_a_probability_that_was_rounded_to_nothing_does_not_overrule_the_other_model():
    fused = wide(fuse(answers([(1.0, 0.0, 0.0, 0.0)]), answers([(0.0, 1.0, 0.0, 0.0)], model_hash="r")))
    np.testing.assert_allclose(fused[0, :2], 0.5, atol=1e-5)
    assert np.isfinite(fused).all()


@pytest.fixture
def run_dir(tmp_path):
    """The stored tables of a run: chosen and last models, branches, cases of the last round that differ."""
    (tmp_path / "run.toml").write_text(CONFIG)
    ensemble = [drawn(60, 0), drawn(60, 5, arm="federated:axial"), drawn(60, 6, model_hash="last")]
    write_predictions(tmp_path, "subtype-ensemble", pd.concat(ensemble))
    write_predictions(tmp_path, "subtype-radiomics", pd.concat([drawn(60, 1, model_hash="r"), drawn(60, 7)]))
    return tmp_path


def test_the_chosen_models_of_a_run_are_fused_and_stored_with_their_rows(run_dir):
    config = load_config(run_dir / "run.toml")
    rows = fuse_centre(run_dir, config, CHOSEN)
    stored = read_predictions(run_dir, TABLE)
    pd.testing.assert_frame_equal(stored, fuse(drawn(60, 0), drawn(60, 1, model_hash="r")), check_exact=True)
    assert rows == classification_rows(
        stored, config.evaluation, task="subtype-ensemble", seed=3, role="external", thresholds={}
    )
    found = {row.metric: row for row in rows}
    assert {"auc_macro", *(f"auc_{name}{end}" for name in SUBTYPES for end in ("", "_delong"))} <= set(found)
    macro = found["auc_macro"]
    assert isinstance(macro, ResultRow)
    assert (macro.arm, macro.model_hash, macro.n) == (FUSION, "e+r", 60)
    assert macro.ci_low < macro.value < macro.ci_high
    assert not any(name.startswith("sensitivity") for name in found)  # no threshold was frozen for it


def test_a_run_of_one_of_the_two_has_nothing_to_fuse(run_dir):
    for chosen in CHOSEN.items():
        assert fuse_centre(run_dir, load_config(run_dir / "run.toml"), dict([chosen])) == []
    assert not (run_dir / "predictions" / f"{TABLE}.parquet").exists()


def test_a_centre_without_subtypes_has_an_empty_fusion_and_no_rows(run_dir):
    write_predictions(run_dir, "subtype-radiomics", drawn(0, 1, model_hash="r"))
    assert fuse_centre(run_dir, load_config(run_dir / "run.toml"), CHOSEN) == []
    assert read_predictions(run_dir, TABLE).empty
