"""Late fusion by hand: the geometric mean of two models' probabilities, renormalised, on the cases of both."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from server.evaluation.late_fusion import fuse, fuse_rivals, fusion_table
from server.evaluation.metric_rows import table_rows
from server.run_folder.arms import FUSION
from server.run_folder.predictions import WHO, case_table, read_predictions
from server.run_folder.results import ResultRow
from shared.cohort.labels import SUBTYPES
from shared.config.run_config import load_config
from shared.evaluation import table_row
from shared.tasks import task_named

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
TABLE = fusion_table("subtype-ensemble")
SCORES = [f"score_{name}" for name in SUBTYPES]


def answers(scores, *, truth=(0, 1, 2, 3), model_hash="e", arm="federated", names=None):
    """Cases with the given probabilities of the four subtypes."""
    return case_table(
        table_row(
            SimpleNamespace(key=f"centre-d-{name:03d}-e-L"), "centre-d", arm, model_hash,
            {f"truth_{label}": float(truth[index] == place) for place, label in enumerate(SUBTYPES)}
            | dict(zip(SCORES, row, strict=True)),
        )
        for index, (name, row) in enumerate(zip(names or range(len(scores)), scores, strict=True))
    )  # fmt: skip


def drawn(n, seed, **changes):
    truth = np.random.default_rng(n).integers(0, 4, n)
    return answers(np.random.default_rng(seed).dirichlet(np.ones(4), n), truth=truth, **changes)


def wide(table):
    return table.sort_values("case")[SCORES].to_numpy()


def fused_of(first, second):
    return fuse(first, second, SUBTYPES)


def test_two_models_are_fused_as_by_hand():
    first = answers([(0.64, 0.16, 0.16, 0.04), (0.25, 0.25, 0.25, 0.25)])
    second = answers([(0.25, 0.25, 0.25, 0.25), (0.7, 0.1, 0.1, 0.1)], model_hash="r")
    fused = fused_of(first, second)
    # Roots 0.4, 0.2, 0.2, 0.1 add up to 0.9.
    np.testing.assert_allclose(wide(fused)[0], np.array([4, 2, 2, 1]) / 9)
    np.testing.assert_allclose(wide(fused)[1], np.sqrt([7, 1, 1, 1]) / (np.sqrt(7) + 3))
    truths = [f"truth_{name}" for name in SUBTYPES]
    assert list(fused.columns) == [*WHO, *truths, *SCORES]
    assert set(fused["arm"]) == {FUSION}
    assert set(fused["model_hash"]) == {"e+r"}
    assert fused["case"].tolist() == ["centre-d-000-e-L", "centre-d-001-e-L"]
    assert fused[truths].to_numpy().tolist() == [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]


def test_a_model_fused_with_itself_is_itself():
    table = drawn(40, 0)
    fused = fused_of(table, table)
    np.testing.assert_allclose(wide(fused), wide(table), rtol=1e-12)
    truths = ["case", *(f"truth_{name}" for name in SUBTYPES)]
    pd.testing.assert_frame_equal(fused[truths], table[truths])


def test_neither_the_order_of_cases_nor_that_of_models_matters():
    first, second = drawn(40, 0), drawn(40, 1, model_hash="r")
    fused = fused_of(first, second)
    shuffled = fused_of(first.sample(frac=1, random_state=0), second.sample(frac=1, random_state=1))
    pd.testing.assert_frame_equal(fused, shuffled, check_exact=True)
    np.testing.assert_allclose(wide(fused_of(second, first)), wide(fused), rtol=1e-12)
    np.testing.assert_allclose(wide(fused).sum(axis=1), 1.0)


def test_cases_that_only_one_model_evaluated_are_left_out():
    uniform = [(0.25,) * 4] * 3
    first, second = answers(uniform), answers(uniform, names=(1, 2, 3), truth=(1, 2, 3), model_hash="r")
    second.loc[second["case"] == "centre-d-002-e-L", "score_luminal_b"] = np.nan
    assert set(fused_of(first, second)["case"]) == {"centre-d-001-e-L"}
    assert fused_of(first, second.head(0)).empty


def test_a_probability_that_was_rounded_to_nothing_does_not_overrule_the_other_model():
    fused = wide(fused_of(answers([(1.0, 0.0, 0.0, 0.0)]), answers([(0.0, 1.0, 0.0, 0.0)], model_hash="r")))
    np.testing.assert_allclose(fused[0, :2], 0.5, atol=1e-5)
    assert np.isfinite(fused).all()


@pytest.fixture
def run_dir(tmp_path):
    (tmp_path / "run.toml").write_text(CONFIG)
    return tmp_path


CHOSEN = {"subtype-ensemble": drawn(60, 0), "subtype-radiomics": drawn(60, 1, model_hash="r")}


def test_the_chosen_models_of_a_run_are_fused_and_stored_with_their_rows(run_dir):
    config = load_config(run_dir / "run.toml")
    rows = fuse_rivals(run_dir, config, CHOSEN)
    stored = read_predictions(run_dir, TABLE)
    pd.testing.assert_frame_equal(stored, fused_of(*CHOSEN.values()), check_exact=True)
    assert rows == table_rows(
        stored, task_named("subtype-ensemble").metrics, config.evaluation, task="subtype-ensemble", seed=3,
        role="external",
    )  # fmt: skip
    found = {row.metric: row for row in rows}
    assert {"auc_macro", *(f"auc_{name}{end}" for name in SUBTYPES for end in ("", "_delong"))} <= set(found)
    macro = found["auc_macro"]
    assert isinstance(macro, ResultRow)
    assert (macro.arm, macro.model_hash, macro.n) == (FUSION, "e+r", 60)
    assert macro.ci_low < macro.value < macro.ci_high
    assert not any(name.startswith("sensitivity") for name in found)  # no threshold was frozen for it


def test_a_run_of_one_of_the_two_has_nothing_to_fuse(run_dir):
    for chosen in CHOSEN.items():
        assert fuse_rivals(run_dir, load_config(run_dir / "run.toml"), dict([chosen])) == []
    assert not (run_dir / "predictions" / f"{TABLE}.parquet").exists()


def test_a_centre_without_subtypes_has_an_empty_fusion_and_no_rows(run_dir):
    nothing = {"subtype-radiomics": drawn(60, 1).head(0), "subtype-ensemble": drawn(60, 0)}
    assert fuse_rivals(run_dir, load_config(run_dir / "run.toml"), nothing) == []
    assert read_predictions(run_dir, TABLE).empty


def test_a_centre_without_a_single_case_has_tables_without_columns(run_dir):
    for other in (case_table([]), CHOSEN["subtype-radiomics"]):
        nothing = {"subtype-ensemble": case_table([]), "subtype-radiomics": other}
        assert fuse_rivals(run_dir, load_config(run_dir / "run.toml"), nothing) == []
        assert read_predictions(run_dir, TABLE).empty
