"""Figures of networks whose look is known; maps are gradients of what is reported."""

import numpy as np
import pandas as pd
import pytest
import torch

from shared.config.sections import PatchSection
from shared.modalities.mri.lesion_patch import cut_patch
from shared.models.ensemble_resnet import PLANES
from shared.saliency import REGIONS
from shared.tasks.subtype_ensemble import build_model, scores
from shared.tasks.subtype_saliency import READERS, figures, saliency_maps
from tests.shared.models.drawn_ensembles import with_heads
from tests.shared.tasks.invented_lesions import PLAN, Looking, case, view


def table_of(model, number, subtype, radius=8.0, config=None):
    given = case(number, subtype, radius)
    rows = figures(model, given, PLAN, config or view(), subtype)
    return pd.DataFrame(rows, columns=["reader", "region", "value"])


def value(table, **where):
    for column, wanted in where.items():
        table = table[table[column] == wanted]
    return table["value"].to_numpy()


def test_a_model_without_preference_has_ones_for_every_reader_and_region():
    table = table_of(Looking(torch.zeros_like), 1, "luminal_b", 9.0)
    assert list(zip(table["reader"], table["region"], strict=True)) == [(x, y) for x in READERS for y in REGIONS]
    assert table["value"].to_numpy() == pytest.approx(1.0, abs=1e-4)


def test_a_model_that_looks_around_the_lesion_is_seen_to_in_millimetres():
    def around(distance):
        return ((distance <= 0) & (distance > -10)).float()

    table = table_of(Looking(around), 1, "triple_negative", 9.0)
    for reader in READERS:
        found = dict(zip(REGIONS, value(table, reader=reader), strict=True))
        assert found["surroundings"] > 1.5
        assert max(found["core"], found["rim"], found["beyond"]) < 0.1


def test_a_lesion_without_core_has_no_value_there():
    table = table_of(with_heads(build_model(view())), 1, "luminal_a", 3.0)
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
    table = table_of(with_heads(build_model(own)), 1, "luminal_a", 5.0, own)
    for plane in PLANES:  # beside it, nothing but the lesion has a trace of the branch
        assert value(table, reader=plane, region="surroundings") > 0.2
