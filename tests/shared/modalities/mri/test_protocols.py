"""One lesion of a phantom under several protocols and fat suppressions: what a network sees of it must not change."""

import copy
from dataclasses import replace

import numpy as np
import pytest

from shared.modalities.mri.dce_study import DceStudy
from shared.modalities.mri.region import extract_region
from shared.phantom.centres import population_at, protocol_at
from shared.phantom.exam import PhantomSettings, background_uptake, make_body
from shared.phantom.mr_signal import acquire
from tests.mri_cases import WITHOUT_N4

SETTINGS = PhantomSettings(cases_per_site=30)
PROTOCOLS = {
    "1+2": (150.0, 450.0),
    "1+3": (85.0, 170.0, 255.0),
    "1+5": (85.0, 170.0, 255.0, 340.0, 425.0),
    "hybrid": (*np.arange(6.0, 91.0, 6.0).tolist(), 160.0, 230.0, 300.0, 370.0, 440.0),
}


@pytest.fixture(scope="module", params=["A", pytest.param("D", marks=pytest.mark.slow)])
def body(request):
    return make_body(request.param, 1, SETTINGS)


def seen(body, *, implant=False, **changes):
    """The same patient with another protocol; mean signal of her lesion, `(1 + time,)`, relative to the level."""
    again = copy.deepcopy(body)
    protocol = replace(protocol_at(body.place, SETTINGS.shift), **changes)
    background = background_uptake(again.scanner, again.anatomy, again.background)
    motion = population_at(body.place, SETTINGS.shift).motion_mm
    phases = acquire(again.scanner, again.anatomy, again.lesion, background, protocol=protocol, motion_mm=motion)
    times = (-60.0, *protocol.post_times_s)
    if implant:
        phases[:, silicone(body)] = 3.0 * np.percentile(phases[0], 99.0)
    region = extract_region(DceStudy(phases, times, body.anatomy.grid), body.mask, body.side, WITHOUT_N4)
    return region.phases.astype(np.float32)[:, body.mask[region.window]].mean(axis=1)


def silicone(body):
    """A box in the breast away from the lesion, as bright as silicone without its suppression."""
    breast, grid = body.anatomy.breast[body.side], body.anatomy.grid
    centre = np.argwhere(breast).mean(axis=0)
    place = np.indices(grid.shape)
    inside = np.ones(grid.shape, bool)
    for axis, step in enumerate(grid.spacing):
        inside &= np.abs(place[axis] - centre[axis]) * step < 22.0
    return inside & breast & ~body.mask


def test_the_same_lesion_under_every_protocol(body):
    curves = {name: seen(body, post_times_s=times) for name, times in PROTOCOLS.items()}
    uptakes = np.array([curve[1] - curve[0] for curve in curves.values()])
    late = np.array([curve[2:] - curve[1] for curve in curves.values()]) / uptakes[:, None]
    assert np.ptp(late, axis=0).max() < 0.05, late
    assert np.ptp(uptakes) < 0.05 * uptakes.mean(), uptakes
    assert np.ptp([curve[0] for curve in curves.values()]) < 0.05


def test_the_same_lesion_with_and_without_fat_suppression(body):
    with_, little, without = (seen(body, residual_fat=share) for share in (0.1, 0.4, 1.0))
    for curve in (little, without):
        assert curve[1] - curve[0] == pytest.approx(with_[1] - with_[0], rel=0.2)
        assert (curve[-1] - curve[1]) / (curve[1] - curve[0]) == pytest.approx(
            (with_[-1] - with_[1]) / (with_[1] - with_[0]), abs=0.05
        )


def test_the_same_lesion_beside_silicone(body):
    plain, beside = seen(body), seen(body, implant=True)
    assert beside[1] - beside[0] == pytest.approx(plain[1] - plain[0], rel=0.2)
