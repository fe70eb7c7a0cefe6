"""MRI and mammography fused by hand: the mean of log odds, on the breasts that both models answered."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from server.evaluation.metric_rows import table_rows
from server.evaluation.modality_fusion import fuse_modalities, fuse_pair, modality_pairs, pair_name, shared_breasts
from server.run_folder.predictions import WHO, case_table, read_predictions
from shared.cohort.labels import MALIGNANT
from shared.config.run_config import parse_config
from shared.evaluation import table_row
from shared.tasks import task_named

MRI, MAMMOGRAMS = "lesion-malignancy", "mammography-malignancy"
PAIR = (task_named(MRI), task_named(MAMMOGRAMS), [MALIGNANT])
ALONE, OTHER, FUSED = (f"both:{MAMMOGRAMS}:{who}" for who in ("mri", "mammography", "fusion"))
CONFIG = parse_config(
    {
        "name": "t", "seed": 3, "tasks": [MRI, MAMMOGRAMS], "evaluation": {"bootstrap": 100},
        "data": {"root": "d", "sites": ["centre-a", "centre-b"], "external": "centre-d"},
    },
    "t",
)  # fmt: skip


def answers(given, exam, model_hash, arm="federated"):
    """Cases `patient, side, truth, score`, of an exam of one modality."""
    return case_table(
        table_row(
            SimpleNamespace(key=f"centre-d-{patient}-{exam}-{side}"), "centre-d", arm, model_hash,
            {"truth_malignant": float(truth), "score_malignant": score},
        )
        for patient, side, truth, score in given
    )  # fmt: skip


def drawn(exam, model_hash, seed, n=40):
    scores = np.random.default_rng(seed).random(n)
    return answers([(f"{i:03d}", "L", i % 2, score) for i, score in enumerate(scores)], exam, model_hash)


def scores_of(table, arm):
    return table[table["arm"] == arm].set_index("case")["score_malignant"].to_dict()


def test_the_odds_of_two_models_are_fused_as_by_hand():
    mri = answers([("p", "L", 1, 0.9), ("p", "R", 0, 0.5)], "e1", "m")
    mammograms = answers([("p", "R", 0, 0.2), ("p", "L", 1, 0.2)], "e2", "x")
    table = fuse_pair(mri, mammograms, PAIR)
    # Odds of 9 and 1/4: their geometric mean is 1.5. Odds of 1 and 1/4: 0.5.
    assert scores_of(table, FUSED) == pytest.approx({"centre-d-p-both-L": 0.6, "centre-d-p-both-R": 1 / 3})
    assert scores_of(table, ALONE) == {"centre-d-p-both-L": 0.9, "centre-d-p-both-R": 0.5}
    assert scores_of(table, OTHER) == {"centre-d-p-both-L": 0.2, "centre-d-p-both-R": 0.2}
    assert table.groupby("arm")["model_hash"].unique().map(list).to_dict() == {
        ALONE: ["m"],
        OTHER: ["x"],
        FUSED: ["m+x"],
    }
    assert table.groupby("arm")["truth_malignant"].apply(list).map(tuple).to_dict() == dict.fromkeys(
        (ALONE, OTHER, FUSED), (1.0, 0.0)
    )
    assert list(table.columns) == [*WHO, "truth_malignant", "score_malignant"]
    assert set(table["patient"]) == {"centre-d-p"}


def test_a_model_that_is_certain_does_not_overrule_the_other():
    table = fuse_pair(answers([("p", "L", 1, 1.0)], "e1", "m"), answers([("p", "L", 1, 0.0)], "e2", "x"), PAIR)
    assert scores_of(table, FUSED) == {"centre-d-p-both-L": pytest.approx(0.5, abs=1e-4)}


def test_neither_the_order_of_cases_nor_that_of_tasks_matters():
    mri, mammograms = drawn("e1", "m", 0), drawn("e2", "x", 1)
    table = fuse_pair(mri, mammograms, PAIR)
    shuffled = fuse_pair(mri.sample(frac=1, random_state=0), mammograms.sample(frac=1, random_state=1), PAIR)
    pd.testing.assert_frame_equal(table, shuffled, check_exact=True)
    swapped = fuse_pair(mammograms, mri, (PAIR[1], PAIR[0], PAIR[2]))
    assert scores_of(swapped, f"both:{MRI}:fusion") == scores_of(table, FUSED)
    assert scores_of(swapped, f"both:{MRI}:mammography") == scores_of(table, OTHER)


def test_breasts_without_one_answer_of_each_are_left_out_and_counted():
    mri = [("a", "L", 1, 0.7), ("b", "L", 1, 0.7), ("c", "L", 1, 0.7), ("d", "L", 1, None)]
    mammograms = [("a", "L", 1, 0.7), ("a", "R", 0, 0.2), ("b", "L", 0, 0.2), ("c", "L", 1, 0.2), ("d", "L", 1, 0.2)]
    first, second = answers(mri, "e1", "m"), answers(mammograms, "e2", "x")
    second = pd.concat([second, answers([("c", "L", 1, 0.4)], "e3", "x")])
    both, counts = shared_breasts(first, second, [MALIGNANT])
    assert both["case"].tolist() == ["centre-d-a-both-L"]
    assert list(counts.values()) == [2, 1, 1]  # a's right breast and d; c; b
    assert len(fuse_pair(first, second, PAIR)) == 3


@pytest.mark.parametrize("nothing", [case_table([]), drawn("e2", "x", 1).head(0)])
def test_a_centre_of_one_modality_has_an_empty_table_and_no_row(tmp_path, nothing):
    assert fuse_modalities(tmp_path, CONFIG, {MRI: drawn("e1", "m", 0), MAMMOGRAMS: nothing}) == []
    assert read_predictions(tmp_path, pair_name(MRI, MAMMOGRAMS)).empty


def test_the_chosen_models_of_a_run_are_fused_and_stored_with_their_rows(tmp_path):
    chosen = {MRI: drawn("e1", "m", 0), MAMMOGRAMS: drawn("e2", "x", 1, n=30)}
    rows = fuse_modalities(tmp_path, CONFIG, chosen)
    stored = read_predictions(tmp_path, f"{MRI}-and-{MAMMOGRAMS}")
    pd.testing.assert_frame_equal(stored, fuse_pair(*chosen.values(), PAIR), check_exact=True)
    settings = {"task": MRI, "seed": 3, "role": "external"}
    assert rows == table_rows(stored, PAIR[0].metrics, CONFIG.evaluation, **settings)
    areas = {row.arm: row for row in rows if row.metric == "auc_malignant"}
    assert {arm: (row.n, row.model_hash) for arm, row in areas.items()} == {
        ALONE: (30, "m"), OTHER: (30, "x"), FUSED: (30, "m+x"),
    }  # fmt: skip
    # Of the breasts alone: on the same ones, so not the model's figure on all of its cases.
    assert areas[ALONE].value == table_rows(
        chosen[MRI].head(30), PAIR[0].metrics, CONFIG.evaluation, **settings
    )[0].value  # fmt: skip
    assert not any(row.metric.startswith("sensitivity") for row in rows)  # no threshold was frozen for it


def test_pairs_are_of_two_modalities_and_a_label_that_both_score():
    def pairs(*names):
        return [
            (one.name, other.name, [label.name for label in labels]) for one, other, labels in modality_pairs(names)
        ]

    assert pairs(MRI, MAMMOGRAMS) == [(MRI, MAMMOGRAMS, ["malignant"])]
    assert pairs("mammography-her2", "receptor-status") == [("mammography-her2", "receptor-status", ["her2"])]
    assert pairs("subtype-ensemble", "subtype-radiomics", "mammography-subtype") == [
        ("subtype-ensemble", "mammography-subtype", ["luminal_a", "her2_enriched", "triple_negative"])
    ]
    assert pairs(MRI, "receptor-status", "lesion-segmentation") == []
    assert pairs(MAMMOGRAMS, "mammography-her2", "lesion-segmentation", "receptor-ki67-multitask") == [
        ("mammography-her2", "receptor-ki67-multitask", ["her2"])
    ]
