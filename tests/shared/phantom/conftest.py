"""A phantom exam of a few hundred voxels: the writers' tests need no anatomy. And mammograms, which do."""

import functools

import numpy as np
import pytest

from shared.phantom.biology import Labels, Latents
from shared.phantom.centres import CENTRES
from shared.phantom.exam import PhantomExam, make_body
from shared.phantom.mammograms import make_mammograms
from shared.phantom.settings import PhantomSettings
from shared.types import Grid

LABELS = Labels("luminal_a", er=True, pr=True, her2_ihc=0, her2_fish=None, ki67_percent=10.0, age=58, density="b")
MAMMOGRAMS = PhantomSettings(mammograms=True)
LATENTS = Latents(22.0, 1.2, 0.1, 0.5, 0.3, 0.2, 0.3, 0.2, 0.6, 0.2, 0, non_mass=False)


@pytest.fixture
def small_exam():
    """Build the exam of a centre: random grey levels, every voxel another place, masks without symmetry."""

    def build(key):
        centre = CENTRES[key]
        rng = np.random.default_rng(3)
        slope = 0.25 if centre.series == "single" else 1.0
        shape = (5, 6, 7)
        lesion = np.zeros(shape, bool)
        lesion[1:3, 2:5, 3] = lesion[2, 4, 4:6] = True
        breast = np.zeros(shape, bool)
        breast[:, 1:, 2:] = True
        return PhantomExam(
            centre=key,
            index=4,
            phases=(rng.integers(0, 4096, (4, *shape)) * slope).astype(np.float32),
            times_s=(-70.0, 90.0, 180.0, 270.0),
            grid=Grid(shape, (2.5, 1.5, 1.25), (-40.0, -75.5, 12.0)),
            lesion=lesion,
            breast=breast,
            fibroglandular=breast & ~lesion,
            side="left",
            labels=LABELS,
            latents=LATENTS,
            protocol=centre.protocol,
            slope=slope,
        )

    return build


@functools.cache
def _taken(key, index):
    body = make_body(key, index, MAMMOGRAMS)
    return body, make_mammograms(body, MAMMOGRAMS)


@pytest.fixture(scope="session")
def taken():
    """Body and four mammograms of a patient, made once for all tests."""
    return _taken
