"""Which round a task's sums choose: by Dice the best, by AUC the last that cannot be told from the best."""

import math
from functools import reduce
from operator import add

import pytest

from shared.metrics.sums import Moments, Sums
from shared.tasks import task_named
from shared.tasks.choice import Choice, highest_mean

SEGMENTATION, RECEPTORS = task_named("lesion-segmentation"), task_named("receptor-status")


def outlined(dice, cases=1):
    return Sums({"n": cases, "dice": Moments(cases, dice * cases, dice**2 * cases)})


def classified(scores, truths=(0, 0, 0, 0, 1, 1, 1, 1), label="er"):
    rows = ({f"truth_{label}": float(t), f"score_{label}": s} for t, s in zip(truths, scores, strict=True))
    return reduce(add, map(RECEPTORS.sums, rows))


GOOD = (0.1, 0.2, 0.3, 0.45, 0.4, 0.7, 0.8, 0.9)  # AUC 15/16, standard error 0.09
FAIR = (0.1, 0.2, 0.55, 0.45, 0.4, 0.5, 0.8, 0.9)  # 13/16
POOR = (0.9, 0.8, 0.7, 0.6, 0.1, 0.2, 0.3, 0.95)  # 4/16
SURE = (0.001, 0.001, 0.001, 0.9999, 0.97, 0.9999, 0.9999, 0.9999)  # 14/16 by bins, and certain where it errs


def best(task, *rounds):
    return task.choice.best(dict(enumerate(rounds, 1)))


def test_the_best_round_is_the_highest_validation_dice_and_the_first_of_equals():
    assert best(SEGMENTATION, outlined(0.5), outlined(0.7), outlined(0.7)) == 2


def test_a_round_that_fewer_cases_answered_is_not_the_best():
    assert best(SEGMENTATION, outlined(0.5, 12), outlined(0.9, 4), outlined(0.6, 12)) == 3


def test_without_any_validation_case_the_first_round_stands():
    assert best(SEGMENTATION, Sums(), Sums()) == best(RECEPTORS, Sums(), Sums()) == 1


def test_of_classifiers_the_last_round_within_a_standard_error_of_the_best_auc_is_chosen():
    # Hanley and McNeil for 15/16 and 4 + 4 cases: Q1 = A / (2 - A), Q2 = 2 A^2 / (1 + A).
    area = 15 / 16
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    error = math.sqrt((area * (1 - area) + 3 * (q1 - area**2) + 3 * (q2 - area**2)) / 16)
    assert 13 / 16 < area - error < 14 / 16
    nearly = (0.1, 0.2, 0.3, 0.45, 0.22, 0.7, 0.8, 0.9)  # 14/16
    assert best(RECEPTORS, classified(GOOD), classified(FAIR)) == 1
    assert best(RECEPTORS, classified(GOOD), classified(nearly), classified(FAIR)) == 2
    assert best(RECEPTORS, classified(POOR), classified(FAIR), classified(GOOD)) == 3


def test_a_later_classifier_that_ranks_as_well_is_chosen_although_it_is_too_certain():
    early, late = classified([0.5 + 0.1 * (score - 0.5) for score in GOOD]), classified(SURE)
    assert RECEPTORS.choice.fallback(late) < RECEPTORS.choice.fallback(early)
    assert best(RECEPTORS, early, late) == 2


def test_without_a_class_to_tell_from_another_the_log_loss_decides():
    same = (1,) * 8
    assert best(RECEPTORS, classified(GOOD, same), classified([0.9] * 8, same), classified(POOR, same)) == 2


def test_a_label_weighs_the_same_in_the_loss_however_many_cases_have_it():
    case = RECEPTORS.sums({"truth_er": 1.0, "score_er": 0.8, "truth_pr": 0.0, "score_pr": 0.8})
    more = RECEPTORS.sums({"truth_er": 1.0, "score_er": 0.8})
    expected = (math.log(0.8) + math.log(0.2)) / 2
    assert RECEPTORS.choice.fallback(case) == pytest.approx(expected)
    assert RECEPTORS.choice.fallback(case + more + more) == pytest.approx(expected)
    assert RECEPTORS.choice.fallback(Sums()) is None


def test_a_classifier_that_fewer_cases_answered_is_not_chosen():
    assert best(RECEPTORS, classified(FAIR), classified(GOOD[2:6], (0, 0, 1, 1))) == 1


def test_the_mean_of_several_metrics_needs_each_of_them():
    tissues = task_named("breast-segmentation")
    both = Sums({"n": 1, "dice_breast": Moments.of(0.9), "dice_fibroglandular": Moments.of(0.5)})
    assert tissues.choice.of(both) == pytest.approx(0.7)
    assert tissues.choice.of(Sums({"n": 1, "dice_breast": Moments.of(0.9)})) is None
    assert highest_mean("t", SEGMENTATION.metrics[0]).of(outlined(0.5)) == 0.5


def test_the_best_of_scores_with_an_error_is_held_against_the_error_of_the_best():
    scores = {0: (0.5, 0.4), 1: (0.9, 0.1), 2: (0.85, 0.3), 3: (0.7, 0.3)}
    rounds = {number: Sums({"n": 1, "dice": Moments.of(number)}) for number in scores}

    def score(sums):
        return scores[int(sums.moments("dice").total)]

    assert Choice("t", score, within_error=True).best(rounds) == 2
    assert Choice("t", score).best(rounds) == 1
