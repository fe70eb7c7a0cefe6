"""Learning curves: named after what chooses the round, one panel for each fold."""

import re
from dataclasses import replace

from server.reports.study.learning_curves import learning
from shared.tasks import task_named
from tests.server.reports.study.invented_study import CENTRES, CLASSIFIER, SEGMENTATION


def test_curves_are_named_after_what_chooses_the_round(study):
    for name in (SEGMENTATION, CLASSIFIER):
        drawn, title = learning(study, task_named(name)), task_named(name).choice.title
        words = re.findall(r"<text[^>]*>([^<]*)</text>", drawn["svg"])
        assert f"{title}, validation" in words
        assert [word for word in words if word.startswith("held out: ")] == [f"held out: {fold}" for fold in CENTRES]
        assert "mean of 2 seeds" in drawn["caption"]
        assert "centre-a 12, centre-b 12, centre-c 12, centre-d 12" in drawn["caption"]


def test_without_curves_nothing_is_drawn(study):
    assert learning(replace(study, curves=study.curves.iloc[:0]), task_named(SEGMENTATION)) is None
