"""What made the results: code, versions, seeds, and whether the data are phantoms."""

import subprocess
from datetime import UTC, datetime

import pytest

from server.run_folder.provenance import REPORTED, git_commit, is_phantom, package_versions, provenance
from server.run_folder.results import TrainedTask
from shared.config.run_config import parse_config

SITE = '[site]\nname = "x"\npseudonym_key = "00112233445566778899aabbccddeeff"\n{kind}'


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDBREAST_ROOT", str(tmp_path))
    return tmp_path


def config(**data):
    return parse_config({"name": "t", "seed": 5, "data": {"root": "d", "sites": ["a"], **data}}, "t")


def centre(root, kind):
    folder = root / "d" / "x"
    folder.mkdir(parents=True)
    (folder / "site.toml").write_text(SITE.format(kind=kind))
    (folder / "cases.csv").write_text("patient_id,side\nP1,left\n")


def test_a_run_says_when_of_which_seeds_and_whether_something_was_missing(root):
    tasks = {"lesion-segmentation": TrainedTask(best="a", final="b", best_round=1, rounds=2)}
    before = datetime.now(UTC)
    made = provenance(config(phantom={"seed": 9}), "quick-0", tasks, 12.5, ())
    assert before <= made.created <= datetime.now(UTC)
    assert (made.name, made.seconds, made.outcome, made.missing) == ("quick-0", 12.5, "complete", ())
    assert made.seeds == {"training": 5, "phantom": 9}
    assert made.tasks == tasks
    assert 10 < made.peak_memory_mb < 1e5
    assert made.phantom
    partial = provenance(config(), "quick-0", tasks, 12.5, ("a was absent in round 1",))
    assert (partial.outcome, partial.missing) == ("partial", ("a was absent in round 1",))
    assert partial.seeds == {"training": 5}


def test_every_package_that_decides_the_numbers_is_named():
    versions = package_versions()
    assert set(versions) == set(REPORTED)
    assert versions["torch"].startswith("2.")


def test_phantoms_are_those_that_the_configuration_makes_or_the_external_folder_says_are(root):
    assert is_phantom(config(phantom={}))
    assert not is_phantom(config())
    centre(root, 'kind = "phantom"\n')
    assert is_phantom(config(external="x"))


def test_a_hospitals_folder_is_no_phantom(root):
    centre(root, "")
    assert not is_phantom(config(external="x"))


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
