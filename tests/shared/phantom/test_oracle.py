"""The best AUCs by modality: mammograms add calcifications and do not tell benign lesions of one breast."""

import pytest

from shared.phantom.benign import malignancy_oracle
from shared.phantom.biology import oracle_auc
from shared.phantom.centres import find_centre, population_at
from shared.phantom.oracle import oracle_areas

GIVEN = {"shift": 0.6, "separation": 0.75, "benign": True}


@pytest.fixture(scope="module")
def areas():
    return {modality: oracle_areas("centre-d", modality, **GIVEN) for modality in ("mri", "mammography")}


def test_those_of_mri_are_the_biologys_own(areas):
    model = population_at(find_centre("centre-d"), 0.6), 0.75
    assert areas["mri"] == oracle_auc(*model) | {"malignant": malignancy_oracle(*model)}


def test_calcifications_tell_more_of_her2_and_malignancy_is_another_question(areas):
    assert areas["mammography"]["her2_enriched"] > areas["mri"]["her2_enriched"]
    assert "malignant" not in areas["mammography"]
    alone = oracle_areas("centre-d", "mammography", **GIVEN | {"benign": False})
    assert alone["malignant"] == alone["density_b"] == 1.0
    assert 0.5 < areas["mammography"]["her2_luminal"] < 1.0
    # Luminal or not is what triple negative and HER2-enriched together are not.
    assert areas["mammography"]["luminal"] > 0.7
