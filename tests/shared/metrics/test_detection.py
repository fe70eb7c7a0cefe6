"""FROC from binned detections against sorting every detection of the cases, and by hand."""

from functools import reduce
from operator import add

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shared.metrics.detection import COLUMNS, EXTRAS, HITS, detections, froc, froc_metrics
from shared.metrics.intervals import bootstrap_patients
from shared.metrics.metric import kinds_of, sums_of
from shared.metrics.sums import BINS, Sums

RATES = (0.4, 0.67, 1.0)
METRICS = tuple(froc_metrics(RATES))


def row(pieces, lesions, threshold=0.5):
    """One case: pieces are (certainty, whether it finds a lesion)."""
    certainty = np.array([piece[0] for piece in pieces], np.float64)
    matched = np.array([piece[1] for piece in pieces], np.bool_)
    return detections(certainty, matched, lesions, threshold)


def figure(rows, rate, weights=None):
    values = np.array([[item[name] for name in COLUMNS] for item in rows], np.float64)
    counts = np.ones((1, len(rows))) if weights is None else np.array([weights], np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(froc(rate)(values, counts)[0])


def slow(cases, rate):
    """The same from every detection on its own: sorted by certainty, counted one after the other, then interpolated."""
    lesions = sum(number for _, number in cases)
    everything = sorted((piece for pieces, _ in cases for piece in pieces), key=lambda piece: -piece[0])
    curve, hits, extras = [(0.0, 0.0)], 0, 0
    for index, (certainty, found) in enumerate(everything):
        hits, extras = hits + found, extras + (not found)
        # Pieces of one certainty come together: there is no threshold between them.
        if index + 1 == len(everything) or everything[index + 1][0] != certainty:
            curve.append((extras / len(cases), hits / lesions))
    highest = [max(share for other, share in curve if other == place) for place, _ in curve]
    places = [place for place, _ in curve]
    if rate >= places[-1]:
        return curve[-1][1]
    after = next(index for index, place in enumerate(places) if place > rate)
    low, high = places[after - 1], places[after]
    return highest[after - 1] + (rate - low) / (high - low) * (curve[after][1] - highest[after - 1])


# A certainty in the middle of a bin: within one bin the sums cannot tell pieces apart, and neither does the reference.
PIECES = st.lists(
    st.tuples(st.integers(0, BINS - 1).map(lambda place: 0.5 + (place + 0.5) / 40), st.booleans()), max_size=6
)
CASES = st.lists(
    PIECES.flatmap(
        lambda pieces: st.integers(0, 2).map(lambda more: (pieces, sum(found for _, found in pieces) + more))
    ),
    min_size=1,
    max_size=6,
)


@given(CASES, st.sampled_from([*RATES, 0.0, 0.05, 3.0]))
def test_the_curve_of_sums_is_that_of_every_detection(cases, rate):
    assume(sum(lesions for _, lesions in cases))
    assert figure([row(*case) for case in cases], rate) == pytest.approx(slow(cases, rate))


def test_three_rates_by_hand():
    # Five cases, five lesions, from the most certain on: hit, extra, hit, extra, extra, hit, extra, extra; two missed.
    cases = [
        ([(0.99, True), (0.94, False)], 1),
        ([(0.89, True), (0.84, False)], 1),
        ([(0.79, False), (0.74, True)], 1),
        ([(0.69, False)], 1),
        ([(0.64, False)], 1),
    ]
    rows = [row(*case) for case in cases]
    # Points of the curve (false positives a case, sensitivity): 0: 0.2; 0.2: 0.2, 0.4; 0.4: 0.4; 0.6: 0.4, 0.6; 1: 0.6.
    assert figure(rows, 0.4) == pytest.approx(0.4)
    assert figure(rows, 0.5) == pytest.approx(0.4)  # level up to 0.6
    assert figure(rows, 0.67) == pytest.approx(0.6)
    assert figure(rows, 1.0) == pytest.approx(0.6)
    assert figure(rows, 0.0) == pytest.approx(0.2)
    assert slow(cases, 0.67) == pytest.approx(0.6)


def test_between_two_certainties_the_curve_is_a_straight_line():
    # One bin holds a hit and two extras: from (0, 0) to (1, 1/2) over two cases and two lesions.
    rows = [row([(0.81, True), (0.815, False)], 1), row([(0.82, False)], 1)]
    assert [figure(rows, rate) for rate in RATES] == pytest.approx([0.2, 0.335, 0.5])


def test_pieces_fall_into_bins_between_the_threshold_and_one():
    found = row([(0.5, True), (0.5249, False), (0.5251, True), (1.0, False)], 3)
    assert [found[name] for name in HITS[:2]] == [1, 1]
    assert (found[EXTRAS[0]], found[EXTRAS[-1]], found["reference_lesions"]) == (1, 1, 3)
    assert list(found) == list(COLUMNS)
    assert sum(found[name] for name in (*HITS, *EXTRAS)) == 4
    # Rounding below the threshold is no bin of its own.
    assert row([(0.9 - 1e-12, True)], 1, threshold=0.9)[HITS[0]] == 1
    nothing = row([], 2)
    assert sum(nothing[name] for name in (*HITS, *EXTRAS)) == 0


def test_without_false_positives_all_pieces_count_and_without_a_lesion_there_is_no_share():
    assert figure([row([(0.8, True)], 2), row([], 1)], 0.4) == pytest.approx(1 / 3)
    assert np.isnan(figure([row([(0.8, False)], 0)], 0.4))
    assert figure([row([(0.8, False)], 0), row([(0.7, True)], 1)], 0.4) == 0.0
    metric = METRICS[0]
    assert metric.of(sums_of((metric,), row([(0.8, False)], 0))) is None


def test_each_resample_has_its_own_curve():
    rows = [row([(0.99, True)], 1), row([(0.9, False), (0.9, False)], 1)]
    assert figure(rows, 0.4, [3, 0]) == 1.0
    assert figure(rows, 0.4, [0, 3]) == 0.0
    assert figure(rows, 0.4, [1, 1]) == 0.5
    values = np.array([[item[name] for name in COLUMNS] for item in rows], np.float64)
    found = bootstrap_patients(values, ["a", "b"], froc(0.4), n=400, seed=0)
    assert (found.value, found.low, found.high) == (0.5, 0.0, 1.0)


def test_sums_of_sites_have_the_tables_figure():
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(40):
        pieces = [(float(rng.uniform(0.5, 1.0)), bool(rng.random() < 0.4)) for _ in range(rng.integers(0, 5))]
        rows.append(row(pieces, sum(found for _, found in pieces) + int(rng.integers(0, 2))))
    sites = [reduce(add, (sums_of(METRICS, item) for item in part), Sums.zero(kinds_of(METRICS)))
             for part in (rows[:7], rows[7:25], rows[25:])]  # fmt: skip
    together = reduce(add, sites)
    for metric, rate in zip(METRICS, RATES, strict=True):
        assert metric.name == f"froc_{rate:.2f}"
        assert metric.of(together) == pytest.approx(figure(rows, rate))
        assert 0 < metric.of(together) < 1
    assert METRICS[0].of(together) < METRICS[2].of(together)
