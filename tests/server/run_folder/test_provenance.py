"""What made the results: code, versions, seeds, and whether the data are phantoms."""

import subprocess
from datetime import UTC, datetime

import pytest

from server.run_folder.provenance import REPORTED, git_commit, package_versions, provenance
from server.run_folder.results import TrainedTask
from shared.config.run_config import parse_config


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDBREAST_ROOT", str(tmp_path))
    return tmp_path


def config(**data):
    return parse_config({"name": "t", "seed": 5, "data": {"root": "d", "sites": ["a"], **data}}, "t")


def test_a_run_says_when_of_which_seeds_and_whether_something_was_missing(root):
    tasks = {"lesion-segmentation": TrainedTask(best="a", final="b", best_round=1, rounds=2)}
    before = datetime.now(UTC)
    made = provenance(config(phantom={"seed": 9}), "quick-0", tasks, 12.5, (), {"a": True}, {})
    assert before <= made.created <= datetime.now(UTC)
    assert (made.name, made.seconds, made.outcome, made.missing) == ("quick-0", 12.5, "complete", ())
    assert made.seeds == {"training": 5, "phantom": 9}
    assert made.tasks == tasks
    assert 10 < made.peak_memory_mb < 1e5
    assert (made.phantom, made.phantom_sites, made.unfinished) == (True, (), {})
    partial = provenance(config(), "quick-0", tasks, 12.5, ("a was absent in round 1",), {"a": False}, {})
    assert (partial.outcome, partial.missing) == ("partial", ("a was absent in round 1",))
    assert partial.seeds == {"training": 5}
    assert not partial.phantom


def test_patients_are_no_phantoms_whatever_the_configuration_makes(root):
    made = provenance(config(phantom={"seed": 9}), "quick-0", {}, 1.0, (), {"a": False}, {})
    assert (made.phantom, made.seeds) == (False, {"training": 5})


def test_a_mixed_run_names_its_phantoms(root):
    made = provenance(config(external="x"), "quick-0", {}, 1.0, (), {"a": True, "x": False}, {})
    assert (made.phantom, made.phantom_sites) == (True, ("a",))
    assert [made.is_phantom(site) for site in ("a", "x", None)] == [True, False, True]


def test_a_task_that_failed_makes_the_run_a_failed_one(root):
    made = provenance(config(), "quick-0", {}, 1.0, ("a was absent in round 1",), {}, {"receptor-status": "no site"})
    assert (made.outcome, made.unfinished) == ("failed", {"receptor-status": "no site"})


def test_every_package_that_decides_the_numbers_is_named():
    versions = package_versions()
    assert set(versions) == set(REPORTED)
    assert versions["torch"].startswith("2.")


def test_the_commit_says_where_tracked_files_were_changed_and_is_empty_outside_a_checkout(root):
    assert git_commit() == ""
    for command in (
        ["init", "-q"],
        ["-c", "user.name=n", "-c", "user.email=e", "commit", "-q", "--allow-empty", "-m", "m"],
    ):
        subprocess.run(["git", *command], cwd=root, check=True)
    clean = git_commit()
    assert len(clean) == 12
    (root / "file").write_text("one")
    subprocess.run(["git", "add", "file"], cwd=root, check=True)
    assert git_commit() == f"{clean}-dirty"
