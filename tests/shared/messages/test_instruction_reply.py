"""A question and its answer: the evaluation that comes with an update reads as if it had been asked for alone."""

import numpy as np

from shared.messages.instruction_reply import Instruction, Reply
from shared.metrics.sums import Sums


def test_the_evaluation_that_came_along_has_its_own_cases_and_no_weights():
    reply = Reply(
        "a", "r", 3, weights=np.ones(2, np.float32), cases=24, skipped=1, seconds=9.0, sums=Sums({"n": 4}),
        evaluation_skipped=2, evaluation_seconds=0.5,
    )  # fmt: skip
    alone = reply.evaluation()
    assert (alone.cases, alone.skipped, alone.seconds, alone.weights) == (4, 2, 0.5, None)
    assert (alone.site, alone.run, alone.round, alone.sums) == ("a", "r", 3, reply.sums)
    assert Reply("a", "r", 3, cases=24).evaluation().cases == 0


def test_a_question_asks_for_validation_cases_and_no_evaluation_unless_it_says_so():
    question = Instruction("r", 0)
    assert (question.split, question.evaluating, question.weights, question.task) == ("validation", False, None, "")
