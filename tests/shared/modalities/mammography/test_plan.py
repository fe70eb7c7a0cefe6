"""The plan of mammograms from levels that sites count: a hand calculation, any order, and what is no fingerprint."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.config.run_config import parse_config
from shared.errors import RunError
from shared.modalities.mammography.plan import BINS, SAMPLES, Extraction, MammographyFingerprint, make_plan
from shared.modalities.mammography.settings import MammographySettings

CONFIG = parse_config(
    {
        "name": "t",
        "tasks": ["mammography-luminal"],
        "data": {"root": "d", "sites": ["a"]},
        "mammography": {"margin": 7},
    },
    "t",
)


def counted(cases, **levels):
    array = np.zeros(BINS, np.int64)
    for bin_, count in levels.items():
        array[int(bin_[1:])] = count
    return MammographyFingerprint(np.array([cases], np.int64), array)


def test_mean_and_deviation_are_those_of_the_counted_grey_values():
    plan = make_plan(counted(2, b20=300, b60=100), CONFIG)
    # Centres of the bins are 0.205 and 0.605, three parts to one.
    assert plan.mean == pytest.approx(0.305)
    assert plan.deviation == pytest.approx(np.sqrt(0.75 * 0.1**2 + 0.25 * 0.3**2), abs=1e-4)
    assert plan.extraction == Extraction.of(MammographySettings(margin=7))


def test_sites_merge_in_any_order_and_none_makes_no_plan():
    one, other = counted(1, b10=50), counted(2, b90=80)
    assert make_plan(one + other, CONFIG) == make_plan(other + one, CONFIG)
    assert one + MammographyFingerprint.empty() == one
    with pytest.raises(RunError, match="no site has a usable training mammogram"):
        make_plan(MammographyFingerprint.empty(), CONFIG)


@given(st.lists(st.integers(0, 20), min_size=BINS, max_size=BINS), st.integers(1, 9))
def test_a_scaled_fingerprint_keeps_its_mean_to_a_count_of_each_level(levels, cases):
    whole = MammographyFingerprint(np.array([10], np.int64), np.array(levels, np.int64))
    less = whole.scaled(cases)
    assert less.n == cases
    reached = np.cumsum(whole.levels) * cases / 10
    assert (np.abs(np.cumsum(less.levels) - reached) < 1).all()


def test_what_is_no_fingerprint_is_refused():
    good = counted(3, b10=3 * SAMPLES).to_dict()
    assert MammographyFingerprint.from_dict(good) == counted(3, b10=3 * SAMPLES)
    for bad in (
        {"cases": [3]},
        good | {"more": [1]},
        good | {"cases": [3.0]},
        good | {"cases": [2**40]},
        good | {"levels": [1] * (BINS - 1)},
        good | {"levels": [-1, *[1] * (BINS - 1)]},
        good | {"levels": [True] * BINS},
        good | {"cases": [2]},
        good | {"levels": [1, *[0] * (BINS - 1)]},
    ):
        with pytest.raises(ValueError, match="fingerprint"):
            MammographyFingerprint.from_dict(bad)
