"""Shares counted by hand, and their intervals beside a direct call of the bootstrap."""

import numpy as np
import pandas as pd
import pytest

from server.evaluation.heat_shares import LEARNT, TRAINED, UNTRAINED, heat_shares
from shared.config.sections import EvaluationConfig
from shared.metrics.intervals import bootstrap_patients
from shared.reproducibility import derive_seed
from shared.tasks.mammogram_heat import AREA, LESION

SETTINGS = EvaluationConfig(bootstrap=300, confidence=0.9)
NONE = float("nan")


def table(*shares):
    """Of cases `(CC, MLO)` with the share within the outline, which has a tenth and three tenths of the pixels."""
    return pd.DataFrame(
        [
            (f"c{case}", f"p{case}", "her2", reader, region, value)
            for case, both in enumerate(shares)
            for reader, share, area in zip(("CC", "MLO"), both, (0.1, 0.3), strict=True)
            for region, value in ((LESION, share), (AREA, NONE if share is None else area))
        ],
        columns=["case", "patient", "class", "reader", "region", "value"],
    ).astype({"value": "float64"})


def test_shares_are_means_over_cases_of_means_over_their_views():
    trained = table((0.2, 0.4), (NONE, 0.8), (None, None))  # no place raises the score; no outline
    untrained = table((0.1, 0.1), (NONE, NONE), (None, None))
    found = heat_shares({TRAINED: trained, UNTRAINED: untrained}, SETTINGS, 5)
    assert found[TRAINED].value == pytest.approx((0.3 + 0.8) / 2)
    assert found[AREA].value == pytest.approx((0.2 + 0.3) / 2)  # of the same views
    assert found[UNTRAINED].value == pytest.approx(0.1)
    assert found[LEARNT].value == pytest.approx(0.2)
    assert [found[name].n for name in (TRAINED, AREA, UNTRAINED, LEARNT)] == [2, 2, 1, 1]


def test_intervals_draw_patients_and_follow_the_configuration():
    shares = np.random.default_rng(0).random((12, 2))
    trained, untrained = table(*shares), table(*(0.5 * shares))
    trained["patient"] = untrained["patient"] = [f"p{row // 8}" for row in range(len(trained))]
    found = heat_shares({TRAINED: trained, UNTRAINED: untrained}, SETTINGS, 5)
    patients = [f"p{case // 2}" for case in range(12)]
    seed = derive_seed(5, "heat-bootstrap")
    for name, factor in ((TRAINED, 1.0), (UNTRAINED, 0.5), (LEARNT, 0.5)):
        expected = bootstrap_patients(factor * shares.mean(axis=1), patients, n=300, seed=seed, confidence=0.9)
        assert found[name].low == pytest.approx(expected.low)
        assert found[name].high == pytest.approx(expected.high)
        assert found[name].patients == 6
    shuffled = {TRAINED: trained.sample(frac=1, random_state=1), UNTRAINED: untrained}
    assert heat_shares(shuffled, SETTINGS, 5)[LEARNT].low == pytest.approx(found[LEARNT].low)


def test_without_an_outline_there_is_no_figure():
    found = heat_shares({TRAINED: table((None, None)), UNTRAINED: table((None, None))}, SETTINGS, 5)
    assert [found[name].value for name in (TRAINED, AREA, UNTRAINED, LEARNT)] == [None] * 4
    assert found[TRAINED].n == 0
