"""What stands behind a mask's path, and which labels it means."""

import numpy as np
import pytest

from shared.dicom.label_map import choose, marked, split_choice
from shared.errors import StudyError


@pytest.mark.parametrize(
    ("cell", "path", "choice"),
    [
        ("m/a.nii.gz", "m/a.nii.gz", None),
        ("m/a.nii.gz#2", "m/a.nii.gz", (2,)),
        ("m/a.dcm#1,2", "m/a.dcm", (1, 2)),
        ("m/a.dcm#1, 12", "m/a.dcm", (1, 12)),
        ("m/a.dcm#1;2", "m/a.dcm", (1, 2)),
        ("m/a.dcm#1+2", "m/a.dcm", (1, 2)),
        ("m/a.dcm#ALL", "m/a.dcm", "all"),
        ("m/P#3/a.dcm", "m/P#3/a.dcm", None),
        ("m/P#3/a.dcm#4", "m/P#3/a.dcm", (4,)),
        ("m/a.dcm#lesion", "m/a.dcm#lesion", None),
        ("", "", None),
    ],
)
def test_path_and_choice(cell, path, choice):
    assert split_choice(cell) == (path, choice)


def test_labels_are_chosen_or_named():
    assert choose({4}, None) == choose({4}, "all") == choose({4}, (4, 5)) == [4]
    assert choose({1, 2, 3}, (3, 2, 2)) == [2, 3]
    for choice in (None, (9,), (0,)):
        with pytest.raises(StudyError, match="labels 1, 2, 3") as caught:
            choose({1, 2, 3}, choice)
        assert caught.value.reason == "unreadable_mask"
    with pytest.raises(StudyError, match=r"10, 11, 12, \.\.\."):
        choose(range(1, 40), None)


def test_an_array_without_a_label_is_empty_whatever_is_chosen():
    assert not marked(np.zeros((2, 3, 4)), (2,)).any()


def test_many_labels_are_a_label_map_and_more_are_an_image():
    values = np.arange(128).reshape(2, 8, 8)
    assert marked(values, (5, 7)).sum() == 2
    with pytest.raises(StudyError, match="as of an image"):
        marked(np.arange(200).reshape(2, 10, 10), (5,))
