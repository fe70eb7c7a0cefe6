"""What every task that explains its network declares: files of its own, classes that its page can name."""

from pathlib import Path

import pytest

from server.reports.sections.task_section import _EXPLAINED
from shared.cohort.labels import CaseLabels
from shared.config.run_config import load_config
from shared.tasks import TASKS, task_named
from shared.tasks.explanation import REST

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
EXPLAINED = [name for name in TASKS if task_named(name).explained]


def test_no_two_tasks_write_the_same_files():
    stems = [task_named(name).explained.stem for name in EXPLAINED]
    assert len(set(stems)) == len(stems) > 1
    assert not any(first != other and other.startswith(f"{first}-") for first in stems for other in stems)


@pytest.mark.parametrize("name", EXPLAINED)
def test_the_page_draws_its_method(name):
    assert task_named(name).explained.method in _EXPLAINED


@pytest.mark.parametrize("name", EXPLAINED)
def test_a_class_is_one_that_the_task_scores_and_a_case_without_labels_has_none(name):
    task = task_named(name)
    view = load_config(CONFIGS / f"{'mammography-rivals' if 'mammography' in name else 'quick'}.toml").for_task(name)
    cancers = [
        CaseLabels(er=er, pr=er, her2=her2, ki67_percent=ki67, malignant=True, density="b", outlined=True)
        for er in (True, False)
        for her2 in (True, False)
        for ki67 in (5.0, 60.0)
    ]
    healthy = CaseLabels(malignant=False, density="c")
    told = {task.explained.class_of(labels, view) for labels in (*cancers, healthy)} - {None}
    assert len(told) > 1
    assert told <= {label.name for label in task.scored} | ({REST} if len(task.scored) == 1 else set())
    assert task.explained.class_of(CaseLabels(), view) is None
