"""Pictures of the best, the median and the worst case, and of a task without pictures nothing."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from server.evaluation import case_pictures
from server.evaluation.case_pictures import drawn_cases, store_picture
from server.run_folder.pictures import read_pictures
from shared.modalities.modality import Background
from shared.tasks import task_named
from shared.tasks.task import OWN, Evaluator, Measured

LESIONS = task_named("lesion-segmentation")
SHAPE = (6, 30, 30)


def masks(number):
    reference, predicted = np.zeros((2, 1, *SHAPE), bool)
    reference[0, 2:4, 10:20, 10:20] = True
    predicted[0, 2:4, 10 : 20 - number, 10:20] = True
    return predicted, reference


@pytest.fixture
def drawn(monkeypatch):
    """A task whose evaluator has the masks of a case's number, and studies whose images are its number."""
    task = replace(
        LESIONS,
        evaluator=Evaluator(
            lambda _model, case, *_: case.number, np.mean, lambda number, *_, **__: Measured({OWN: {}}, masks(number))
        ),
    )
    images = {"uptake": 1.0, "pre-contrast": -1.0}
    monkeypatch.setattr(
        case_pictures, "modality_named",
        lambda _: SimpleNamespace(background=lambda study: Background(
            {name: np.full(SHAPE, sign * study, np.float32) for name, sign in images.items()}, (2.0, 1.0, 1.0))),
    )  # fmt: skip
    keys = [f"d-p{number}-e-L" for number in range(5)]
    cases = [SimpleNamespace(key=key, number=number) for number, key in enumerate(keys)]
    table = pd.DataFrame({"case": keys, "dice": [0.9, 0.8, 0.3, 0.6, 0.7], "patient": keys})
    return task, dict(zip(keys, range(5), strict=True)), cases, table


def test_the_cases_are_chosen_by_the_tasks_column_and_drawn_with_their_masks_and_image(drawn):
    task, studies, cases, table = drawn
    told = list(drawn_cases(task, None, studies, cases, table, None, None))
    assert [(item.label, item.key) for item in told] == [
        ("best", "d-p0-e-L"),
        ("median", "d-p4-e-L"),
        ("worst", "d-p2-e-L"),
    ]
    assert (float(told[2].shown.max()), told[2].spacing) == (2.0, (2.0, 1.0, 1.0))
    assert (int(told[2].reference.sum()), int(told[2].predicted.sum())) == (200, 160)


def test_what_is_drawn_is_stored_for_the_page(drawn, tmp_path):
    task, studies, cases, table = drawn
    for one in drawn_cases(task, None, studies, cases, table, None, None):
        store_picture(tmp_path, task.name, task.pictures, one)
    found = read_pictures(tmp_path, task.name)
    assert [item.label for item in found] == ["best", "median", "worst"]
    axial = found[2].views["axial"]
    assert (int(axial.reference.sum()), int(axial.prediction.sum())) == (100, 80)
    assert axial.reference.dtype == np.uint8
    assert set(np.unique(axial.image)) == {2.0}


def test_a_task_without_pictures_and_a_centre_without_cases_have_none(drawn, tmp_path):
    task, studies, cases, table = drawn
    assert list(drawn_cases(replace(task, pictures=None), None, studies, cases, table, None, None)) == []
    assert list(drawn_cases(task, None, studies, cases, table.head(0), None, None)) == []
