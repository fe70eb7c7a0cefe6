"""An update's answer, and the evaluation that came with it."""

import numpy as np

from shared.messages.instruction_reply import Reply
from shared.metrics.sums import Sums


def test_the_evaluation_in_an_update_is_as_if_it_had_been_asked_for_alone():
    update = Reply(
        "a", "run", 3, "manifest", np.ones(2, np.float32), cases=16, skipped=2, seconds=9.0,
        sums=Sums({"n": 5}), evaluation_skipped=1, evaluation_seconds=0.5,
    )  # fmt: skip
    own = update.evaluation()
    assert (own.site, own.run, own.round) == ("a", "run", 3)
    assert (own.weights, own.sums) == (None, update.sums)
    assert (own.cases, own.skipped, own.seconds) == (5, 1, 0.5)


def test_an_update_without_an_evaluation_evaluates_no_case():
    assert Reply("a", "run", 3, cases=16).evaluation().cases == 0
