"""A site's folder on a mount that nobody can write to, as the containers have it."""

import hashlib

import pytest
from typer.testing import CliRunner

from client.app import app
from server.commands.cli import app as commands
from server.federation.rounds import Federation
from server.run_folder.journal import RunFolder
from server.studies.in_process_grid import InProcessGrid
from shared.runtime.project import load_run_config
from shared.tasks import task_named
from tests.mounts import read_only

RUN_CONFIG = {"config": "toy.toml", "seed": -1, "rounds": -1}


def contents(folder):
    return {
        path.relative_to(folder): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_scenario_65_a_site_prepares_trains_and_evaluates_from_a_read_only_mount(
    project, phantom_root, tmp_path, monkeypatch
):
    with read_only(phantom_root / "centre-a", tmp_path / "mounted" / "centre-a") as mounted:
        with pytest.raises(OSError, match="Read-only file system"):
            (mounted / "cases.csv").touch()
        before = contents(mounted)
        root = project(
            data={"root": str(mounted.parent), "sites": ["centre-a"]}, federation={"rounds": 1}, splits={"test": 0.2}
        )
        monkeypatch.setenv("FEDBREAST_CACHE", str(tmp_path / "cache"))  # everything is read anew
        folder = RunFolder.create(root / "runs" / "one", load_run_config(RUN_CONFIG))
        federation = Federation(InProcessGrid(app, RUN_CONFIG, 1), load_run_config(RUN_CONFIG), folder, lambda *_: None)
        federation.register()
        record = federation.train(task_named("lesion-segmentation"))[-1]
        assert (record.sites["centre-a"].status, record.sites["centre-a"].cases) == ("accepted", 3)
        assert record.evaluated["centre-a"].cases == 1
        assert federation.evaluate(record, folder.model(record))["centre-a"].n == 1
        folder.release()
        done = CliRunner().invoke(commands, ["check", str(mounted)])
        assert done.exit_code == 0, done.output
        assert contents(mounted) == before
    assert contents(phantom_root / "centre-a") == before
