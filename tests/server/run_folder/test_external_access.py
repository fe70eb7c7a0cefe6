"""The locked centre: opened once, for models that are named."""

import json

import pytest

from server.run_folder.external_access import OPENED, open_once, read_opened
from server.run_folder.journal import RunFolder
from shared.config.run_config import parse_config
from shared.errors import RunError

CONFIG = parse_config({"name": "tiny", "data": {"root": "d", "sites": ["a"], "external": "x"}}, "t")


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder.create(tmp_path / "one", CONFIG)
    yield folder
    folder.release()


def test_a_centre_that_was_not_opened_says_so(folder):
    assert read_opened(folder.path) is None


def test_opening_is_recorded_with_its_models_before_a_case_is_read(folder):
    open_once(folder, "x", {"t": ["b", "a", "b"]})
    found = read_opened(folder.path)
    assert (found.centre, found.model_hashes, found.at_node) == ("x", ("a", "b"), False)
    assert found.at.tzinfo is not None
    assert json.loads((folder.path / OPENED).read_text())["model_hashes"] == ["a", "b"]


def test_a_run_that_was_stopped_goes_on_with_the_same_models_and_keeps_the_time(folder):
    open_once(folder, "x", {"t": ["a", "b"]})
    first = read_opened(folder.path)
    open_once(folder, "x", {"t": ["b", "a"]})
    assert read_opened(folder.path) == first


@pytest.mark.parametrize(
    ("centre", "hashes", "at_node"),
    [("x", ["a"], False), ("x", ["a", "c"], False), ("y", ["a", "b"], False), ("x", ["a", "b"], True)],
)
def test_a_second_look_is_refused(folder, centre, hashes, at_node):
    open_once(folder, "x", {"t": ["a", "b"]})
    with pytest.raises(RunError, match=r"already opened in this run, for other models.*Start a new run"):
        open_once(folder, centre, {"t": hashes}, at_node=at_node)


def test_a_run_that_goes_on_after_a_task_failed_opens_it_for_further_tasks_and_for_no_other_model(folder):
    open_once(folder, "x", {"t": ["a", "b"]})
    first = read_opened(folder.path)
    for models in ({"t": ["a", "c"], "u": ["d"]}, {"u": ["a", "b"]}, {"t": ["a", "b", "d"]}):
        with pytest.raises(RunError, match="for other models"):
            open_once(folder, "x", models)
    with pytest.raises(RunError, match="for other models"):
        open_once(folder, "x", {"t": ["a", "b"], "u": ["d"]}, at_node=True)
    assert read_opened(folder.path) == first
    open_once(folder, "x", {"t": ["b", "a"], "u": ["d"]})
    found = read_opened(folder.path)
    assert (found.model_hashes, found.tasks) == (("a", "b", "d"), {"t": ("a", "b"), "u": ("d",)})
    assert found.at == first.at


def test_a_centre_at_its_own_node_says_so(folder):
    open_once(folder, "x", {"t": ["a"]}, at_node=True)
    assert read_opened(folder.path).at_node


def test_a_damaged_file_is_refused_and_not_taken_for_a_closed_centre(folder):
    (folder.path / OPENED).write_text('{"centre": "x"')
    for act in (lambda: read_opened(folder.path), lambda: open_once(folder, "x", {"t": ["a"]})):
        with pytest.raises(RunError, match=r"one/external-opened\.json cannot be read"):
            act()
