"""The round that a run stands for, and the thresholds that are frozen with it, from the records of its rounds."""

from functools import reduce
from operator import add

import pytest

from server.federation.model_selection import chosen_record, thresholds
from server.run_folder.round_record import RoundRecord, SiteEntry
from shared.errors import RunError
from shared.metrics.sums import Moments, Sums
from shared.tasks import task_named

LESIONS, RECEPTORS = task_named("lesion-segmentation"), task_named("receptor-status")


def record(number, task=LESIONS, **sites):
    entries = {site: SiteEntry("accepted", validation=sums.to_flat()) for site, sums in sites.items()}
    return RoundRecord(task.name, number, f"h{number}", 1.0, entries)


def outlined(dice, cases=1):
    return Sums({"n": cases, "dice": Moments(cases, dice * cases, dice**2 * cases)})


def scored(*pairs, label="er"):
    return reduce(add, (RECEPTORS.sums({f"truth_{label}": float(t), f"score_{label}": s}) for t, s in pairs))


def test_the_round_is_chosen_by_the_cases_of_all_sites_together_and_the_start_is_none():
    start = RoundRecord(LESIONS.name, 0, "h0", 0.0)
    # Means of sites would choose the first round: 0.65 against 0.6.
    records = [start, record(1, a=outlined(0.9), b=outlined(0.4, 3)), record(2, a=outlined(0.7), b=outlined(0.5, 3))]
    assert chosen_record(LESIONS, records).round == 2
    with pytest.raises(RunError, match="no round was committed"):
        chosen_record(LESIONS, [start])


def test_a_round_that_a_site_did_not_evaluate_is_not_chosen():
    assert chosen_record(LESIONS, [record(1, a=outlined(0.5), b=outlined(0.5)), record(2, a=outlined(0.9))]).round == 1


def test_thresholds_are_those_of_all_sites_cases_and_none_where_a_class_is_missing():
    chosen = record(
        1, RECEPTORS, a=scored((0, 0.16), (1, 0.81)), b=scored((0, 0.19), (1, 0.97)) + scored((1, 0.9), label="pr")
    )
    assert thresholds(RECEPTORS, chosen) == {"er": 0.5, "pr": None, "her2": None}
    # Each site alone has other gaps: together the highest negative and the lowest positive part them.
    shifted = record(1, RECEPTORS, a=scored((0, 0.56), (1, 0.97)), b=scored((0, 0.1), (1, 0.66)))
    assert thresholds(RECEPTORS, shifted)["er"] == 0.6


def test_a_task_without_scores_freezes_nothing():
    assert thresholds(LESIONS, record(1, a=outlined(0.5))) == {}
