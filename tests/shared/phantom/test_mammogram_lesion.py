"""The index lesion of a mammogram: the MRI's own, with calcifications by subtype."""

from types import SimpleNamespace

import numpy as np
import pytest

from shared.phantom import mammogram_lesion
from shared.phantom.biology import Labels, oracle_auc
from shared.phantom.centres import CENTRES, SUBTYPES, population_at
from shared.phantom.mammogram_lesion import (
    CALCIFIED,
    calcification_signs,
    draw_finding,
    lesion_path,
    outline,
    retraction,
    speck_path,
)
from tests.shared.phantom.conftest import LATENTS, MAMMOGRAMS


def body_of(subtype, breast, **latents):
    labels = Labels(subtype, er=True, pr=True, her2_ihc=0, her2_fish=None, ki67_percent=10.0, age=58, density="b")
    growth = SimpleNamespace(**{name: getattr(LATENTS, name) for name in LATENTS.__slots__} | latents)
    return SimpleNamespace(labels=labels, growth=growth, lesion=SimpleNamespace(centre=(60.0, -20.0, 0.0)))


@pytest.fixture
def breast(taken):
    return taken("D", 0)[0].breasts[0]


def test_cancers_are_calcified_as_often_as_their_subtype_says(breast):
    rng = np.random.default_rng(5)
    for subtype in SUBTYPES:
        body = body_of(subtype, breast)
        drawn = [draw_finding(rng, body, breast) for _ in range(400)]
        assert np.mean([item.calcified for item in drawn]) == pytest.approx(CALCIFIED[subtype], abs=0.08)
        assert all(item.calcified == (len(item.calcifications[0]) > 0) for item in drawn)
    assert CALCIFIED["her2_enriched"] > CALCIFIED["luminal_b"] > CALCIFIED["luminal_a"] > CALCIFIED["triple_negative"]


def test_signs_are_probabilities_and_the_oracle_gains_by_them():
    signs = calcification_signs()
    np.testing.assert_allclose(signs.sum(axis=1), 1.0)
    population = population_at(CENTRES["D"], 0.6)
    without = oracle_auc(population, 0.75, n=6000)
    given = oracle_auc(population, 0.75, n=6000, signs=signs)
    assert given["her2_enriched"] > without["her2_enriched"] + 0.01
    useless = oracle_auc(population, 0.75, n=6000, signs=np.full((4, 3), 1.0 / 3.0))
    assert useless == pytest.approx(without, abs=1e-12)


def test_calcifications_are_small_lie_at_the_lesion_and_are_seen(taken, breast):
    rng = np.random.default_rng(6)
    geometry = taken("D", 0)[1][0].geometry
    for _ in range(30):
        finding = draw_finding(rng, body_of("her2_enriched", breast), breast)
        points, sizes = finding.calcifications
        if finding.calcified:
            assert 0.05 < sizes.min() < sizes.max() < 1.0
            assert np.linalg.norm(points - (60.0, -20.0, 0.0), axis=1).max() < 2.2 * LATENTS.diameter_mm / 2.0 + 3.0
    volume = speck_path(geometry, (np.array([[60.0, -20.0, 0.0]]), np.array([1.0]))).sum() * geometry.pixel**2
    assert volume == pytest.approx(np.pi / 6.0, rel=1e-4)
    assert speck_path(geometry, (np.zeros((0, 3)), np.zeros(0))).max() == 0.0


def test_spiculated_cancers_have_more_spicules_and_draw_in_more(breast):
    rng = np.random.default_rng(7)
    smooth, spiky = (
        [draw_finding(rng, body_of("luminal_a", breast, spiculation=amount), breast) for _ in range(20)]
        for amount in (0.1, 0.9)
    )
    assert np.mean([len(item.spicules[0]) for item in spiky]) > 5 * np.mean([len(item.spicules[0]) for item in smooth])
    assert spiky[0].retraction > 5 * smooth[0].retraction > 0.0


def test_the_path_holds_the_volume_of_the_mris_lesion(taken):
    """In another lattice, cut by nothing, and flattened: the same body within a fifth."""
    for patient in (("A", 0), ("B", 0)):
        body, pictures = taken(*patient)
        picture = next(item for item in pictures if item.side == body.side)
        finding = draw_finding(np.random.default_rng(1), body, picture.geometry.breast)
        path, _ = lesion_path(picture.geometry, body, MAMMOGRAMS, finding)
        volume = path.sum() * picture.geometry.pixel**2 * 1.15 / 1000.0
        assert volume == pytest.approx(body.lesion.body.sum() * body.anatomy.grid.voxel_volume_ml, rel=0.2)


def test_structure_comes_from_farther_out_than_it_is_seen(taken):
    body, pictures = taken("D", 0)
    geometry = next(item.geometry for item in pictures if item.side == body.side)
    finding = draw_finding(np.random.default_rng(1), body, geometry.breast)
    (at,), _ = geometry.project(np.array(body.lesion.centre)[None])
    pull = retraction(geometry, body, finding)
    row, column = (int(at[0]) + 12, int(at[1]) + 3)
    assert pull[0, row, column] > 0.5
    assert np.abs(pull[:, -1, -1]).max() < 1e-3


def test_an_outline_is_filled_and_leaves_out_what_is_hardly_there():
    path = np.zeros((60, 60), np.float32)
    path[20:40, 20:40] = 10.0
    path[28:32, 28:32] = 0.0
    path[30, 40:60] = 0.5
    expected = np.zeros((60, 60), bool)
    expected[20:40, 20:40] = True
    np.testing.assert_array_equal(outline(path), expected)


@pytest.mark.parametrize("patient", [("D", 1), ("A", 0), ("C", 1)], ids=["spiculated", "satellite", "non-mass"])
def test_the_lattice_cuts_nothing_off_a_lesion(taken, monkeypatch, patient):
    body, pictures = taken(*patient)
    picture = next(item for item in pictures if item.side == body.side)
    lattices = []
    monkeypatch.setattr(
        mammogram_lesion, "interpolate", lambda path, *_: lattices.append(path) or np.zeros(picture.geometry.shape)
    )
    finding = draw_finding(np.random.default_rng(1), body, picture.geometry.breast)
    lesion_path(picture.geometry, body, MAMMOGRAMS, finding)
    rim = np.concatenate([lattices[0][[0, -1]].ravel(), lattices[0][:, [0, -1]].ravel()])
    assert rim.max() < 0.02 * lattices[0].max()
