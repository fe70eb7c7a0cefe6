"""Four views of one patient: the MRI's lesion in both, the MRI's density, parenchyma like that of real mammograms."""

import numpy as np
import pytest

from shared.phantom.exam import make_body
from shared.phantom.mammogram_realism import bright_share, brightest_outline, power_law_exponent
from shared.phantom.mammograms import make_mammograms
from tests.shared.phantom.conftest import MAMMOGRAMS

# One patient of each density, over all four centres.
BY_DENSITY = {"a": ("C", 1), "b": ("B", 0), "c": ("A", 1), "d": ("D", 0)}


@pytest.fixture(scope="module", params=BY_DENSITY.values(), ids=lambda patient: patient[0])
def patient(request, taken):
    return taken(*request.param)


def tissue(picture):
    return picture.inside & ~picture.muscle


def of_the_lesion(body, pictures):
    return [picture for picture in pictures if picture.side == body.side]


def test_each_breast_has_both_views_and_the_index_breast_its_outlines(patient):
    body, pictures = patient
    assert [(picture.side, picture.view) for picture in pictures] == [
        *(("left", "CC"), ("left", "MLO")),
        *(("right", "CC"), ("right", "MLO")),
    ]
    assert all((picture.lesion is not None) == (picture.side == body.side) for picture in pictures)
    for picture in pictures:
        assert picture.grey.dtype == np.float32
        assert picture.grey.shape == picture.geometry.shape
        assert 0.0 <= picture.grey.min() < picture.grey.max() <= 1.0
        assert picture.grey[tissue(picture)].mean() > 3.0 * picture.grey[~picture.inside].mean()
        assert picture.muscle.any() or picture.view == "CC"


def test_the_lesion_lies_where_its_centre_in_the_mri_projects(patient):
    body, pictures = patient
    radius = body.growth.diameter_mm / 2.0
    for picture in of_the_lesion(body, pictures):
        (row, column), _ = picture.geometry.project(np.array(body.lesion.centre)[None])[0][0], None
        middle = np.argwhere(picture.lesion).mean(axis=0)
        assert np.linalg.norm(middle - (row, column)) * picture.geometry.pixel < 0.75 * radius
        assert not (picture.lesion & ~picture.inside).any()


def test_cc_and_mlo_show_one_lesion_at_one_depth_and_of_one_size(patient):
    body, pictures = patient
    depths, areas = [], []
    for picture in of_the_lesion(body, pictures):
        geometry = picture.geometry
        column = np.argwhere(picture.lesion)[:, 1].mean()
        depths.append(column * geometry.pixel / geometry.stretch + geometry.cut)
        areas.append(picture.lesion.sum() * geometry.pixel**2)
    assert abs(depths[0] - depths[1]) < 6.0
    assert 0.5 < areas[0] / areas[1] < 2.0


def test_the_lesion_is_denser_than_the_breast_around_it(patient):
    body, pictures = patient
    for picture in of_the_lesion(body, pictures):
        beside = tissue(picture) & ~picture.lesion
        assert picture.level[picture.lesion].mean() > picture.level[beside].mean()


def test_the_spectrum_of_parenchyma_falls_as_in_real_mammograms(taken):
    exponents = [
        power_law_exponent(picture.measured, tissue(picture))
        for patient in BY_DENSITY.values()
        for picture in taken(*patient)[1]
    ]
    assert 2.5 < np.nanmedian(exponents) < 3.5
    assert np.isfinite(exponents).sum() >= 10


def test_denser_breasts_have_more_bright_tissue(taken):
    shares = [
        np.mean([bright_share(picture.grey, tissue(picture)) for picture in taken(*patient)[1]])
        for patient in BY_DENSITY.values()
    ]
    assert [taken(*patient)[0].labels.density for patient in BY_DENSITY.values()] == list("abcd")
    assert shares == sorted(shares)
    assert shares[0] < 0.25
    assert shares[3] > shares[0] + 0.3


def test_a_rule_alone_does_not_outline_the_lesions(taken):
    overlaps = []
    for patient in BY_DENSITY.values():
        body, pictures = taken(*patient)
        for picture in of_the_lesion(body, pictures):
            outlined = brightest_outline(picture.grey, tissue(picture), picture.geometry.pixel)
            overlaps.append(2.0 * (outlined & picture.lesion).sum() / (outlined.sum() + picture.lesion.sum()))
    assert np.mean(overlaps) < 0.6
    assert max(overlaps) > 0.0


def test_same_seed_same_mammograms_and_another_patient_has_others(taken):
    _, first = taken("D", 0)
    again = make_mammograms(make_body("centre-d", 0, MAMMOGRAMS), MAMMOGRAMS)
    assert [picture.grey.tobytes() for picture in first] == [picture.grey.tobytes() for picture in again]
    assert [picture.measured.tobytes() for picture in first] == [picture.measured.tobytes() for picture in again]
    assert len({picture.grey.tobytes() for picture in (*first, *taken("C", 1)[1])}) == 8
