"""Labels obey the clinic's rules and the configured shares; the oracle lies in its band."""

import numpy as np
import pytest
from scipy.stats import chisquare

from shared.phantom.biology import KI67_CUT, auc, draw_labels, draw_latents, oracle_auc
from shared.phantom.centres import CENTRES, CONSENSUS_POPULATION, DENSITIES, SUBTYPES, population_at

DRAWS = 4000


@pytest.fixture(scope="module")
def labels():
    rng = np.random.default_rng(1)
    return [draw_labels(rng, population_at(CENTRES["D"], 1.0)) for _ in range(DRAWS)]


def st_gallen(er, pr, her2, ki67):
    """Surrogate subtype from receptors, written apart from the generator."""
    if not er and not pr:
        return "her2_enriched" if her2 else "triple_negative"
    return "luminal_a" if er and pr and not her2 and ki67 < KI67_CUT else "luminal_b"


def test_subtype_follows_from_the_receptors(labels):
    assert {label.subtype for label in labels} == set(SUBTYPES)
    for label in labels:
        assert st_gallen(label.er, label.pr, label.her2, label.ki67_percent) == label.subtype


def test_equivocal_her2_always_has_a_hybridisation_result(labels):
    equivocal = [label for label in labels if label.her2_ihc == 2]
    assert 0.15 < len(equivocal) / DRAWS < 0.25
    assert all((label.her2_fish is None) == (label.her2_ihc != 2) for label in labels)


def test_prevalence_and_density_are_as_configured(labels):
    population = population_at(CENTRES["D"], 1.0)
    for values, shares, drawn in (
        (SUBTYPES, population.prevalence, [label.subtype for label in labels]),
        (DENSITIES, population.density, [label.density for label in labels]),
    ):
        counts = [drawn.count(value) for value in values]
        assert chisquare(counts, np.array(shares) * DRAWS).pvalue > 0.001


def test_median_diameters_by_subtype():
    rng = np.random.default_rng(2)
    for subtype, expected in zip(SUBTYPES, (23.0, 27.0, 33.5, 26.0), strict=True):
        sizes = [draw_latents(rng, subtype, 1.0, 0.0).diameter_mm for _ in range(400)]
        assert np.median(sizes) == pytest.approx(expected, abs=2.0)
        assert min(sizes) >= 14.0


def test_auc_by_hand_with_a_tie():
    # Pairs (positive, negative): 3 > 1, 3 > 2, 2 > 1, 2 = 2: (3 + 0.5) / 4.
    assert auc(np.array([3.0, 2.0, 1.0, 2.0]), np.array([True, True, False, False])) == pytest.approx(0.875)


@pytest.mark.parametrize(("separation", "macro", "er", "her2"), [(0.6, 0.87, 0.925, 0.815), (1.0, 0.952, 0.981, 0.898)])
def test_oracle_lies_in_its_band(separation, macro, er, her2):
    oracle = oracle_auc(CONSENSUS_POPULATION, separation, n=4000, seed=3)
    assert np.mean([oracle[name] for name in SUBTYPES]) == pytest.approx(macro, abs=0.03)
    assert oracle["er"] == pytest.approx(er, abs=0.03)
    assert oracle["her2"] == pytest.approx(her2, abs=0.03)


def test_oracle_without_separation_knows_nothing():
    oracle = oracle_auc(CONSENSUS_POPULATION, 1e-6, n=4000, seed=4)
    assert np.mean([oracle[name] for name in SUBTYPES]) == pytest.approx(0.5, abs=0.03)


def test_separation_zero_draws_all_subtypes_alike():
    def draw(subtype):
        return draw_latents(np.random.default_rng(5), subtype, 1e-9, 0.0).ktrans

    assert draw("luminal_a") == pytest.approx(draw("triple_negative"), rel=1e-6)
