"""Damaged files of the cache cost their case, and looking changes nothing of what is drawn."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest

from client.readable_cases import open_readable
from shared.cohort.labels import CaseLabels
from shared.config.run_config import parse_config
from shared.tasks import task_named

TASK = task_named("lesion-segmentation")
CONFIG = parse_config({"name": "t", "data": {"root": "d", "sites": ["a"]}}, "t")
PATCHES = parse_config(
    {"name": "t", "data": {"root": "d", "sites": ["a"]}, "training": {"mode": "patch", "patch_voxels": [4, 4, 4]}}, "t"
)


class Case(SimpleNamespace):
    """A prepared case whose arrays are files, opened anew each time."""

    @property
    def image(self):
        return np.load(self.folder / f"{self.key}-image.npy", mmap_mode="r")

    @property
    def mask(self):
        return np.load(self.folder / f"{self.key}-mask.npy", mmap_mode="r")

    @property
    def foreground(self):
        return np.argwhere(self.mask)


@pytest.fixture
def cases(tmp_path):
    made = []
    for number in range(4):
        key, draws = f"a-p{number}-e-L", np.random.default_rng(number)
        np.save(tmp_path / f"{key}-image.npy", draws.random((2, 6, 8, 8)).astype(np.float16))
        np.save(tmp_path / f"{key}-mask.npy", (draws.random((6, 8, 8)) < 0.1).astype(np.uint8))
        made.append(Case(key=key, folder=tmp_path, labels=CaseLabels()))
    return made


def truncate(file):
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize("config", [CONFIG, PATCHES], ids=["whole", "patch"])
def test_sound_cases_are_all_there_in_their_order(cases, config):
    opened, skipped = open_readable(TASK, cases, None, config)
    assert ([case.key for case in opened], skipped) == ([case.key for case in cases], 0)


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.unlink(),
        lambda file: file.write_bytes(b""),
        truncate,
        lambda file: file.write_bytes(b"x" * 99),
    ],
)
def test_a_damaged_file_costs_its_case_and_the_sites_own_log_names_it(cases, damage, caplog):
    damage(cases[1].folder / "a-p1-e-L-image.npy")
    damage(cases[3].folder / "a-p3-e-L-mask.npy")
    with caplog.at_level(logging.WARNING):
        opened, skipped = open_readable(TASK, cases, None, CONFIG)
    assert ([case.key for case in opened], skipped) == (["a-p0-e-L", "a-p2-e-L"], 2)
    told = [item.getMessage() for item in caplog.records]
    assert [message.split()[1] for message in told] == ["a-p1-e-L", "a-p3-e-L"]
    assert all("clear the cache" in message for message in told)


def test_cases_that_the_task_does_not_take_are_not_skipped_ones(cases):
    cases[0].labels = CaseLabels(malignant=False)
    opened, skipped = open_readable(TASK, cases, None, CONFIG)
    assert (len(opened), skipped) == (3, 0)


def test_without_a_sound_case_nothing_is_left(cases):
    for case in cases:
        (case.folder / f"{case.key}-mask.npy").unlink()
    opened, skipped = open_readable(TASK, cases, None, CONFIG)
    assert (list(opened), skipped) == ([], 4)


def test_looking_draws_from_no_generator_of_the_training(cases):
    np.random.seed(3)  # noqa: NPY002 - the global state is what must not move
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - the same
    open_readable(TASK, cases, None, PATCHES)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002 - the same


def test_another_kind_of_fault_is_no_damaged_file(cases, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(Case, "image", property(broken))
    with pytest.raises(ZeroDivisionError):
        open_readable(TASK, cases, None, CONFIG)
