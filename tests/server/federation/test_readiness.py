"""What is looked at before the first task trains: labels, memory, disk."""

from types import SimpleNamespace

import pytest

from server.federation.readiness import check_disk, check_tasks
from server.run_folder.journal import RunFolder
from server.run_folder.round_record import RoundRecord, SiteEntry
from shared.config.run_config import parse_config
from shared.errors import RunError
from shared.messages.instruction_reply import SiteFacts
from shared.messages.payload import FEW
from shared.runtime import machine
from shared.tasks import task_named

FIRST, SECOND = "lesion-segmentation", "receptor-status"


def config(min_sites=2, rounds=3):
    return parse_config(
        {"name": "t", "tasks": [FIRST, SECOND], "data": {"root": "d", "sites": ["a", "b", "c"]},
         "receptor_status": {"rounds": rounds}, "federation": {"min_sites": min_sites, "rounds": rounds}}, "t"
    )  # fmt: skip


def check(labelled, facts=None, lost=None, min_sites=2):
    known = SimpleNamespace(config=config(min_sites), facts=facts or {}, lost=lost or {})
    check_tasks(known, [FIRST, SECOND], labelled)


@pytest.mark.parametrize("count", [1, FEW])
def test_a_run_whose_tasks_have_enough_sites_goes_on(count):
    check({"a": {FIRST: 3, SECOND: count}, "b": {FIRST: 3, SECOND: 1}, "c": {FIRST: 3, SECOND: 0}})


def test_what_a_site_does_not_tell_is_no_obstacle():
    check({"a": {}, "b": {SECOND: 0}, "c": {}})


def test_one_line_says_task_site_reason_and_remedy():
    lost = {"c": SiteEntry("absent", "never connected")}
    with pytest.raises(RunError) as caught:
        check({"a": {SECOND: 4}, "b": {FIRST: 3, SECOND: 0}}, lost=lost)
    assert str(caught.value) == (
        "1 of 3 sites can take part in receptor-status, federation.min_sites is 2 (b: none of its cases has er or pr "
        "or her2 and an outline of the lesion; c: never connected): mend that at the sites, or take receptor-status "
        "out of 'tasks'"
    )


def test_a_task_that_learns_from_masks_says_so():
    with pytest.raises(RunError, match=r"part in lesion-segmentation.*\(a: none of its cases has the reference masks"):
        check({"a": {FIRST: 0}}, min_sites=1)


def test_memory_that_does_not_hold_the_network_is_an_obstacle_and_unknown_memory_is_none():
    model = task_named(SECOND).learner.build_model(config().for_task(SECOND))
    needed = 5 * 4 * sum(value.numel() for value in model.state_dict().values()) // 10**6
    assert needed > 1
    for free, fits in ((needed, True), (0, True), (needed - 1, False)):
        facts = {"a": SiteFacts(memory_mb=free)}
        if fits:
            check({"a": {}}, facts, min_sites=1)
        else:
            with pytest.raises(RunError, match=rf"a: training needs {needed} MB of memory, {free} MB are free"):
                check({"a": {}}, facts, min_sites=1)


@pytest.mark.parametrize(("free_mb", "fits"), [(10**6, True), (0, True), (1, False)])
def test_a_disk_that_does_not_hold_the_models_is_missed_before_the_run(tmp_path, monkeypatch, free_mb, fits):
    usage = SimpleNamespace(free=free_mb * 10**6)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _path: usage)
    folder = RunFolder.create(tmp_path / "one", config())
    try:
        if fits:
            check_disk(folder, config())
        else:
            with pytest.raises(RunError, match=r"below runs/one: they take \d+ MB, 1 MB are free; free some"):
                check_disk(folder, config())
    finally:
        folder.release()


def test_a_run_that_goes_on_needs_room_for_what_is_to_come_only(tmp_path, monkeypatch):
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _path: SimpleNamespace(free=2 * 10**6))
    folder = RunFolder.create(tmp_path / "one", config())
    for task in (FIRST, SECOND):
        for number in range(4):
            folder.enter(RoundRecord(task, number, "h", 1.0))
    try:
        check_disk(folder, config())
        with pytest.raises(RunError, match="no space for the run's models"):
            check_disk(folder, config(rounds=40))
    finally:
        folder.release()
