"""Which round a run stands for: by Dice the best, by AUC the last that cannot be told from the best."""

import math

import pytest

from server.federation.model_selection import best_record
from server.run_folder.journal import RoundRecord, SiteEntry
from shared.errors import RunError
from shared.metrics.score_sums import ClassificationSums
from shared.metrics.sums import Moments, SegmentationSums

TASK = "lesion-segmentation"


def judged(number, sums, task=TASK):
    return RoundRecord(task, number, "h", 1.0, {"a": SiteEntry("accepted", validation=sums.to_dict())})


def outlined(number, dice, cases=1):
    return judged(number, SegmentationSums(n=cases, dice=Moments(cases, dice * cases, dice**2 * cases)))


def classified(number, scores, truths=(0, 0, 0, 0, 1, 1, 1, 1)):
    cases = [ClassificationSums.of([("er", truth, score)]) for truth, score in zip(truths, scores, strict=True)]
    return judged(number, sum(cases, ClassificationSums()), "receptor-status")


GOOD = (0.1, 0.2, 0.3, 0.45, 0.4, 0.7, 0.8, 0.9)  # AUC 15/16, standard error 0.09
FAIR = (0.1, 0.2, 0.55, 0.45, 0.4, 0.5, 0.8, 0.9)  # 13/16
POOR = (0.9, 0.8, 0.7, 0.6, 0.1, 0.2, 0.3, 0.95)  # 4/16
SURE = (0.001, 0.001, 0.001, 0.9999, 0.97, 0.9999, 0.9999, 0.9999)  # 14/16 by bins, and certain where it errs


def test_the_best_round_is_the_highest_validation_dice_and_the_first_of_equals():
    records = [RoundRecord(TASK, 0, "h", 0.0), outlined(1, 0.5), outlined(2, 0.7), outlined(3, 0.7)]
    assert best_record(records).round == 2
    with pytest.raises(RunError, match="no round"):
        best_record(records[:1])


def test_a_round_that_fewer_cases_judged_is_not_the_best():
    assert best_record([outlined(1, 0.5, 12), outlined(2, 0.9, 4), outlined(3, 0.6, 12)]).round == 3


def test_of_classifiers_the_last_round_within_a_standard_error_of_the_best_auc_is_chosen():
    # Hanley and McNeil for 15/16 and 4 + 4 cases: Q1 = A / (2 - A), Q2 = 2 A^2 / (1 + A).
    area = 15 / 16
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    error = math.sqrt((area * (1 - area) + 3 * (q1 - area**2) + 3 * (q2 - area**2)) / 16)
    assert 13 / 16 < area - error < 14 / 16
    nearly = (0.1, 0.2, 0.3, 0.45, 0.22, 0.7, 0.8, 0.9)  # 14/16
    assert best_record([classified(1, GOOD), classified(2, FAIR)]).round == 1
    assert best_record([classified(1, GOOD), classified(2, nearly), classified(3, FAIR)]).round == 2
    assert best_record([classified(1, POOR), classified(2, FAIR), classified(3, GOOD)]).round == 3


def test_a_later_classifier_that_ranks_as_well_is_chosen_although_it_is_too_certain():
    early, late = classified(1, [0.5 + 0.1 * (score - 0.5) for score in GOOD]), classified(2, SURE)
    assert late.validation().score < early.validation().score
    assert best_record([early, late]).round == 2


def test_without_a_class_to_tell_from_another_the_log_loss_decides():
    same = (1,) * 8
    records = [classified(1, GOOD, same), classified(2, [0.9] * 8, same), classified(3, POOR, same)]
    assert best_record(records).round == 2


def test_a_classifier_that_fewer_cases_judged_is_not_chosen():
    few = classified(2, GOOD[2:6], (0, 0, 1, 1))
    assert best_record([classified(1, FAIR), few]).round == 1
