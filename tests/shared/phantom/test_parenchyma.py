"""Fibroglandular tissue fills the share that belongs to the density; ligaments are thin sheets."""

import numpy as np
import pytest

from shared.phantom.breasts import Breast
from shared.phantom.parenchyma import GLAND_SHARE, glandular_share, ligaments
from shared.types import Grid

GRID = Grid((30, 34, 40), (3.0, 2.5, 2.5), (20.0, -70.0, -45.0))


@pytest.mark.parametrize("density", GLAND_SHARE)
def test_gland_fills_its_densitys_share_of_the_breast(density):
    rng = np.random.default_rng(0)
    breast = Breast("left", (70.0, 10.0, 0.0), (50.0, 65.0, 45.0), 2.0, density)
    room = np.zeros(GRID.shape, bool)
    room[4:-4, 2:, 3:-3] = True
    count, volume = int(room.sum()), int(1.2 * room.sum())
    texture = rng.standard_normal(count).astype(np.float32)
    share, score = glandular_share(
        rng, GRID, breast, room=room, volume=volume, skin_depth=np.full(count, 10.0, np.float32), texture=texture
    )
    assert share.shape == score.shape == (count,)
    assert (score > 0).sum() == pytest.approx(GLAND_SHARE[density] * volume, rel=0.01)
    assert np.array_equal(share >= 0.5, score >= 0)


def test_gland_keeps_off_the_skin():
    rng = np.random.default_rng(1)
    breast = Breast("left", (70.0, 10.0, 0.0), (50.0, 65.0, 45.0), 2.0, "c")
    room = np.ones(GRID.shape, bool)
    depth = np.where(rng.random(room.sum()) < 0.5, 0.0, 20.0).astype(np.float32)
    _, score = glandular_share(
        rng, GRID, breast, room=room, volume=int(room.sum()), skin_depth=depth, texture=np.zeros(room.sum(), np.float32)
    )
    assert (score[depth > 0] > 0).mean() > 2 * (score[depth == 0] > 0).mean()


def test_ligaments_are_thin_and_never_fill_a_voxel():
    grid = Grid((40, 40, 40), (1.0, 1.0, 1.0))
    share = ligaments(np.random.default_rng(2), grid, np.zeros(grid.shape, np.float32))
    assert share.min() >= 0.0
    assert 0.3 < share.max() <= 0.38
    # |N(0, 1)| < 0.13 * sqrt(ln 2), the half width, for 8.6% of all voxels.
    assert (share > 0.19).mean() == pytest.approx(0.086, abs=0.03)
