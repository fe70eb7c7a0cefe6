"""Tables from models whose look is known, summaries against hand counts and direct calls of the bootstrap."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from server.evaluation.saliency import (
    COLUMNS,
    DIFFERENCE,
    LEARNT,
    READERS,
    SUMMARY,
    saliency_maps,
    saliency_summary,
    saliency_table,
)
from shared.cohort.labels import SUBTYPES, CaseLabels
from shared.config.run_config import parse_config
from shared.config.sections import EvaluationConfig, PatchSection
from shared.errors import ConfigError
from shared.metrics.intervals import bootstrap_patients
from shared.modalities.mri.lesion_patch import cut_patch
from shared.modalities.mri.plan import Extraction, MriPlan
from shared.modalities.mri.region import BreastRegion
from shared.models.ensemble_resnet import PLANES
from shared.reproducibility import derive_seed
from shared.saliency import REGIONS
from shared.tasks.subtype_ensemble import build_model, scores
from shared.types import Grid
from tests.shared.models.drawn_ensembles import with_heads

SHAPE = (24, 24, 24)
PLAN = MriPlan(
    mode="whole_breast",
    spacing_mm=(2.0, 2.0, 2.0),
    crop_voxels=(16, 16, 16),
    least_voxels=(16, 16, 16),
    low=(-9.0,) * 3,
    high=(9.0,) * 3,
    scale=(0.7, 0.3, 0.3),
    extraction=Extraction(post_phases=2, n4=False, n4_shrink=4, n4_iterations=(1,)),
)
SETTINGS = EvaluationConfig(bootstrap=300)


def view(task="subtype-ensemble", side=16):
    small = {"plane_depth": 10, "plane_width": 4, "volume_depth": 10, "volume_width": 4, "pretrained": "none",
             "patch": {"voxels": [side, side, side], "over_lesion": 2.5}}  # fmt: skip
    raw = {"name": "t", "tasks": [task], "subtype_rule": "as-given", "subtype_ensemble": small,
           "data": {"root": "d", "sites": ["a", "b"]}, "preprocessing": {"post_phases": 2}}  # fmt: skip
    return parse_config(raw, "test").for_task(task)


def case(number, subtype, radius=8.0):
    """A case as the cache gives it: a ball of noise, 2 mm voxels; its key's patient is its number."""
    axes = np.meshgrid(*((np.arange(size) - (size - 1) / 2) * 2.0 for size in SHAPE), indexing="ij")
    mask = np.sqrt(sum(axis**2 for axis in axes)) <= radius
    phases = np.random.default_rng(number).random((3, *SHAPE)).astype(np.float16) + np.float16(1)
    grid = Grid(SHAPE, (2.0, 2.0, 2.0))
    region = BreastRegion(phases, np.ones(SHAPE, bool), mask, grid, (0, 0, 0), "right")
    return SimpleNamespace(
        key=f"d-p{number:02d}-e-R", labels=CaseLabels(subtype=subtype), region=lambda: region, native_mask=mask
    )


class Looking(nn.Module):
    """Four branches: triple negative is the first image channel where `look` says, luminal B is it everywhere."""

    def __init__(self, look):
        super().__init__()
        self.look = look

    def forward(self, x):
        seen = (x[:, 0] * self.look(x[:, -1])).flatten(1).mean(dim=1)
        rest = x[:, 0].flatten(1).mean(dim=1)
        logits = torch.stack([0 * rest, rest, 0 * rest, 1000 * seen], dim=1)
        return [logits] * 4


def value(table, **where):
    for column, wanted in where.items():
        table = table[table[column] == wanted]
    return table["value"].to_numpy()


def test_a_model_without_preference_has_ones_for_every_reader_and_region():
    table = saliency_table(Looking(torch.zeros_like), [case(1, "luminal_b", 9.0)], view(), PLAN, samples=2)
    assert tuple(table.columns) == COLUMNS
    assert len(table) == len(READERS) * len(REGIONS)
    assert table["value"].to_numpy() == pytest.approx(1.0, abs=1e-4)
    assert set(table["case"]) == {"d-p01-e-R"}
    assert set(table["patient"]) == {"d-p01"}
    assert set(table["subtype"]) == {"luminal_b"}


def test_a_model_that_looks_around_the_lesion_is_seen_to_in_millimetres():
    def around(distance):
        return ((distance <= 0) & (distance > -10)).float()

    table = saliency_table(Looking(around), [case(1, "triple_negative", 9.0)], view(), PLAN, samples=2)
    for reader in READERS:
        found = dict(zip(REGIONS, value(table, reader=reader), strict=True))
        assert found["surroundings"] > 1.5
        assert max(found["core"], found["rim"], found["beyond"]) < 0.1


def test_the_first_cases_of_each_subtype_are_taken_in_order_of_their_keys():
    cases = [case(number, "luminal_a") for number in (5, 2, 9)] + [case(1, "her2_enriched"), case(0, None)]
    model = with_heads(build_model(view()))
    table = saliency_table(model, cases, view(), PLAN, per_subtype=2, samples=1)
    assert table["case"].unique().tolist() == ["d-p01-e-R", "d-p02-e-R", "d-p05-e-R"]
    alone = saliency_table(model, cases[1:2], view(), PLAN, samples=1)
    assert alone["value"].tolist() == table.loc[table["case"] == "d-p02-e-R", "value"].tolist()


def test_a_lesion_without_core_has_no_value_there():
    table = saliency_table(with_heads(build_model(view())), [case(1, "luminal_a", 3.0)], view(), PLAN, samples=1)
    assert np.isnan(value(table, region="core")).all()
    assert np.isfinite(value(table, region="rim")).all()


def test_maps_are_gradients_of_the_probability_that_is_reported():
    model, given = with_heads(build_model(view())).eval(), case(3, "luminal_b")
    patch = cut_patch(given.region(), given.native_mask, PLAN, view().section(PatchSection).patch)
    maps = saliency_maps(model, patch, "luminal_b", samples=1)
    assert tuple(maps) == READERS
    # A step of a voxel that matters most moves the ensemble's probability more than of one that matters least.
    order = np.argsort(maps["ensemble"].ravel())
    moved = []
    for chosen in (order[:30], order[-30:]):
        chances = []
        for step in (0.05, -0.05):
            changed = np.repeat(patch[None], len(chosen), axis=0)
            changed[:, 1].reshape(len(chosen), -1)[np.arange(len(chosen)), chosen] += step  # pre-contrast is not read
            with torch.no_grad():
                chances.append([found[""]["luminal_b"] for found in scores(model(torch.from_numpy(changed)))])
        moved.append(np.abs(np.subtract(*chances)).mean())
    assert moved[1] > 3 * moved[0]


@pytest.mark.parametrize("side", [16, 17, 18])
def test_a_planes_branch_is_asked_in_a_plane_that_it_reads(side):
    own = view(side=side)
    table = saliency_table(with_heads(build_model(own)), [case(1, "luminal_a", 5.0)], own, PLAN, samples=1)
    for plane in PLANES:  # beside it, nothing but the lesion has a trace of the branch
        assert value(table, reader=plane, region="surroundings") > 0.2


def test_other_tasks_are_refused():
    with pytest.raises(ConfigError, match="receptor-status"):
        saliency_table(nn.Identity(), [], view("receptor-status"), PLAN)


def tidy(values, patients=None, reader="volume", region="surroundings"):
    """Table of cases `(subtype, value)`."""
    return pd.DataFrame(
        [
            (f"c{index}", (patients or {}).get(index, f"p{index}"), subtype, reader, region, number)
            for index, (subtype, number) in enumerate(values)
        ],
        columns=list(COLUMNS),
    )


VALUES = {
    "luminal_a": [0.8, 1.0],
    "luminal_b": [0.6, 1.2],
    "her2_enriched": [5.0],
    "triple_negative": [1.5, 1.1, 1.9, np.nan],
}
CASES = [(subtype, value) for subtype, values in VALUES.items() for value in values]


def row(summary, subtype, region="surroundings", reader="volume"):
    chosen = summary[(summary["reader"] == reader) & (summary["subtype"] == subtype) & (summary["region"] == region)]
    assert len(chosen) == 1
    return chosen.iloc[0]


def test_means_and_the_difference_are_those_counted_by_hand():
    summary = saliency_summary(tidy(CASES), SETTINGS, 0)
    assert tuple(summary.columns) == SUMMARY
    assert len(summary) == len(READERS) * (len(SUBTYPES) * len(REGIONS) + 1)
    assert row(summary, "luminal_b")["value"] == pytest.approx(0.9)
    assert row(summary, "triple_negative")["value"] == pytest.approx(1.5)
    assert row(summary, "triple_negative")["n"] == 3
    found = row(summary, DIFFERENCE)
    assert found["value"] == pytest.approx(1.5 - 0.9)
    assert (found["n"], found["patients"]) == (7, 7)
    assert found["low"] < found["value"] < found["high"]
    assert LEARNT not in set(summary["subtype"])


def test_intervals_draw_patients_and_follow_the_configuration():
    own = tidy(CASES, {0: "p", 1: "p"})
    found = row(saliency_summary(own, SETTINGS, 4), "luminal_a")
    assert (found["n"], found["patients"]) == (2, 1)
    assert np.isnan(found["low"])  # one patient cannot spread
    seed = derive_seed(4, "saliency-bootstrap")
    for settings in (SETTINGS, EvaluationConfig(bootstrap=200, confidence=0.8)):
        expected = bootstrap_patients(
            [1.5, 1.1, 1.9], ["p5", "p6", "p7"], n=settings.bootstrap, seed=seed, confidence=settings.confidence
        )
        found = row(saliency_summary(own, settings, 4), "triple_negative")
        assert (found["low"], found["high"]) == (expected.low, expected.high)


def test_a_difference_that_an_untrained_network_shows_too_was_not_learnt():
    table = tidy(CASES)
    same = saliency_summary(table, SETTINGS, 0, untrained=table.sample(frac=1, random_state=0))
    assert row(same, DIFFERENCE)["value"] == pytest.approx(0.6)
    assert [row(same, LEARNT)[part] for part in ("value", "low", "high")] == [0, 0, 0]
    even = tidy([(subtype, 1.0) for subtype, _ in CASES])
    learnt = saliency_summary(table, SETTINGS, 0, untrained=even)
    parts = ["value", "low", "high", "n", "patients"]
    assert row(learnt, LEARNT)[parts].tolist() == pytest.approx(row(learnt, DIFFERENCE)[parts].tolist())
    # Of two starts the mean counts: 0.6 of the one and none of the other leave half.
    both = saliency_summary(table, SETTINGS, 0, untrained=pd.concat([table, even]))
    assert row(both, LEARNT)[parts].tolist() == pytest.approx([0.3, *(row(learnt, LEARNT)[parts[1:3]] / 2), 7, 7])


def test_without_one_side_there_is_no_difference():
    summary = saliency_summary(tidy(CASES[:5]), SETTINGS, 0)
    assert np.isnan(row(summary, DIFFERENCE)["value"])
    assert row(summary, "triple_negative")["n"] == 0
    assert np.isnan(row(summary, "triple_negative")["value"])


def test_the_same_seed_gives_the_same_summary_whatever_the_order():
    table = tidy(CASES)
    pd.testing.assert_frame_equal(
        saliency_summary(table, SETTINGS, 1), saliency_summary(table.iloc[::-1].reset_index(drop=True), SETTINGS, 1)
    )
