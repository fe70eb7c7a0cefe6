"""The generalisation study on real DICOM: its cells, the locked centres, a kill in the middle, the same numbers."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tomli_w

from client.app import app
from server.federation.rounds import Federation
from server.reports.figures import vector_files
from server.run_folder.journal import RunFolder
from server.studies.comparator_arms import train_arm
from server.studies.design import Cell, Design, cell_folder, finished, trained
from server.studies.in_process_grid import InProcessGrid
from server.studies.run_study import make_report, run_study
from shared.config.run_config import load_config
from shared.errors import ConfigError, RunError
from shared.tasks import task_named
from shared.training import TrainSummary

TASK = "lesion-segmentation"
TABLES = ("results.csv", "summary.csv", "comparisons.csv", "meta_analysis.csv", "subgroups.csv")
START = """
import sys
from pathlib import Path
from server.studies.run_study import run_study
from shared.config.run_config import load_config
if __name__ == "__main__":
    run_study(load_config(Path(sys.argv[1])), Path(sys.argv[2]), jobs=2, on_progress=print, on_moment=lambda m: None)
"""


def silent(*_):
    pass


def study(root, out, **options):
    return run_study(load_config(root / "toy.toml"), out, on_progress=silent, on_moment=silent, **{"jobs": 2} | options)


@pytest.fixture(scope="module", autouse=True)
def _no_vector_files():
    """Their fonts take most of a report's time here; a smaller study's files are tested beside the page."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vector_files, "keep", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory, phantom_root, toy_cache):
    """A finished study of two folds; its configuration lies beside it."""
    root = tmp_path_factory.mktemp("study")
    (root / "toy.toml").write_text(tomli_w.dumps(raw(phantom_root)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDBREAST_ROOT", str(root))
        patch.setenv("FEDBREAST_CACHE", str(toy_cache))
        study(root, root / "whole")
    return root


def raw(phantom_root, **changes):
    return {
        "name": "toy",
        "data": {"root": str(phantom_root), "sites": ["centre-a", "centre-b", "centre-c"], "external": "centre-d"},
        "study": {"held_out": ["centre-b", "centre-d"]},
        "splits": {"validation": 0.2, "test": 0.2},
        "preprocessing": {"max_voxels": 12000, "n4": False},
        "model": {"channels": [8, 8], "deep_supervision": 1},
        "training": {"steps_per_round": 2},
        "federation": {"rounds": 2},
        "evaluation": {"bootstrap": 100},
    } | changes


@pytest.fixture
def at(whole, toy_cache, monkeypatch):
    monkeypatch.setenv("FEDBREAST_ROOT", str(whole))
    monkeypatch.setenv("FEDBREAST_CACHE", str(toy_cache))
    return whole


def numbers(folder):
    return {name: (folder / name).read_bytes() for name in TABLES}


def test_every_arm_is_evaluated_where_it_never_trained(at):
    table = pd.read_parquet(at / "whole" / "predictions" / f"{TASK}.parquet")
    external = table[table["role"] == "external"]
    assert set(external["centre"]) == {"centre-b", "centre-d"}
    assert (external["centre"] == external["held_out"]).all()
    arms = {fold: set(part["arm"]) for fold, part in external.groupby("held_out")}
    common = {"federated", "pooled", "ensemble"}
    assert arms["centre-b"] == common | {"local:centre-a", "local:centre-c", "local:centre-d"}
    assert arms["centre-d"] == common | {"local:centre-a", "local:centre-b", "local:centre-c"}
    # All arms read the same cases.
    assert external.groupby(["held_out", "case"])["arm"].nunique().eq(6).all()
    # Test cases lie where the fold's models trained, and none of them trained any.
    tested = table[table["role"] == "test"]
    assert (tested["centre"] != tested["held_out"]).all()


def test_a_centre_is_opened_for_the_frozen_models_alone(at):
    opened = json.loads((at / "whole" / "opened.json").read_text())
    cells = json.loads((at / "whole" / "cells.json").read_text())
    for fold in ("centre-b", "centre-d"):
        assert set(opened[fold]["models"]) == {item["model_hash"] for item in cells if item["held_out"] == fold}


def test_the_federated_cell_is_the_federation_of_its_fold(at, flower_task):
    config = load_config(at / "toy.toml").leaving_out("centre-b")
    folder = RunFolder.create(at / "runs" / "alone", config)
    try:
        federation = Federation(InProcessGrid(app, {}, 3), config, folder, silent)
        federation.register()
        records = federation.train(task_named(TASK))
    finally:
        folder.release()
    cell = Cell("train", "centre-b", TASK, "federated", 0)
    kept = RunFolder(cell_folder(at / "whole", cell)).records(TASK)
    assert [item.model_hash for item in kept] == [item.model_hash for item in records]


@pytest.mark.slow
def test_killed_in_the_middle_it_ends_with_the_same_numbers(at, tmp_path):
    out = tmp_path / "killed"
    # As a script: processes that are started anew import it again.
    script = tmp_path / "start.py"
    script.write_text(START)
    command = [sys.executable, str(script), str(at / "toy.toml"), str(out)]
    running = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])})
    cells = Design(load_config(at / "toy.toml")).cells()
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and sum(finished(out, cell) for cell in cells if cell.kind == "train") < 3:
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    running.wait()
    done = {cell: (cell_folder(out, cell) / "cell.json").stat().st_mtime_ns
            for cell in cells if cell.kind == "train" and finished(out, cell)}  # fmt: skip
    assert 3 <= len(done) < 10
    assert not (out / "report.html").exists()
    # Its processes end with it: their folder would otherwise be in use.
    time.sleep(1.5)
    study(at, out)
    assert numbers(out) == numbers(at / "whole")
    assert {cell: (cell_folder(out, cell) / "cell.json").stat().st_mtime_ns for cell in done} == done


def test_the_report_is_made_again_from_the_gathered_files_alone(at, tmp_path):
    before = (at / "whole" / "report.html").read_bytes(), numbers(at / "whole")
    copy = tmp_path / "copy"
    copy.mkdir()
    for item in (at / "whole").iterdir():
        if item.name not in {"folds", "logs", "progress", "extracted", ".lock", "report.html", *TABLES}:
            (copy / item.name).symlink_to(item)
    make_report(copy)
    assert ((copy / "report.html").read_bytes(), numbers(copy)) == before


def test_another_design_in_the_same_folder_is_refused(at):
    with pytest.raises(ConfigError, match=r"other values of training\.steps_per_round"):
        run_study(
            changed(at, training={"steps_per_round": 3}), at / "whole", jobs=1, on_progress=silent, on_moment=silent
        )


def test_a_folder_of_something_else_is_left_alone(at, tmp_path):
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(ConfigError, match="something else than a study"):
        study(at, tmp_path)


def test_a_folder_that_cannot_be_made_is_said(at, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="cannot make the study's folder"):
        study(at, tmp_path / "file" / "study")


def test_an_unfinished_study_has_no_report(at, tmp_path):
    for name in ("study.toml", "format.json"):
        (tmp_path / name).write_bytes((at / "whole" / name).read_bytes())
    with pytest.raises(RunError, match="is no finished study"):
        make_report(tmp_path)


def test_a_cell_that_fails_is_named_and_the_others_are_kept(at, tmp_path, relabelled):
    root = relabelled("centre-a", {"mask": ""})
    config = changed(
        at, data=load_config(at / "toy.toml").data.model_dump() | {"root": str(root)}, study={"held_out": ["centre-d"]}
    )
    with pytest.raises(RunError, match=r"centre-a"):
        run_study(config, tmp_path / "out", jobs=1, on_progress=silent, on_moment=silent)
    assert finished(tmp_path / "out", Cell("extract", "centre-b"))


def test_the_ensemble_is_the_mean_of_the_local_models(at):
    from server.studies.fold_evaluation import FoldModels, fold_table
    from shared.evaluation import Arms
    from shared.site import open_site
    from shared.tasks.task import OWN

    task = task_named(TASK)
    design = Design(load_config(at / "toy.toml"))
    config = design.fold("centre-d", 0)
    plan = RunFolder(at / "whole" / "folds" / "centre-d").plans()["mri"]
    models = {}
    for arm in design.trained_arms("centre-d"):
        _, folder, record = trained(at / "whole", Cell("train", "centre-d", TASK, arm, 0))
        models[arm] = task.learner.build_model(config)
        models[arm].load_state_dict(folder.model(record))
    case = open_site(Path(config.data.root) / "centre-a", "centre-a", config).prepared("mri", plan)["test"][0]
    local = [models[f"local:centre-{x}"] for x in "abc"]
    mean = np.mean([task.evaluator.predict(model, case, plan, config, None) for model in local], axis=0)
    expected = task.evaluator.measure(mean.astype(np.float32), case, config, full=True).rows[OWN]
    arms = Arms(models, ensemble="ensemble", members=[f"local:centre-{x}" for x in "abc"])
    fold = FoldModels(arms, dict.fromkeys([*models, "ensemble"], "h"), {})
    table = fold_table(fold, task, [case], plan, config, "centre-a", silent).set_index("arm")
    assert table.loc["ensemble", "dice"] == expected["dice"]
    assert table.loc["ensemble", "volume_ml"] == expected["volume_ml"]


def test_the_pooled_arm_has_every_centres_cases_and_steps(at, monkeypatch):
    from server.studies import comparator_arms

    calls = []

    def record(model, cases, config, *, round_number, site):
        calls.append((site, round_number, config.training.steps_per_round, len(cases)))
        return TrainSummary(1.0, config.training.steps_per_round, 0.0)

    monkeypatch.setattr(comparator_arms, "train_round", record)
    from shared.site import open_site

    config = Design(load_config(at / "toy.toml")).fold("centre-d", 0)
    plan = RunFolder(at / "whole" / "folds" / "centre-d").plans()["mri"]
    prepared = {
        name: open_site(Path(config.data.root) / name, name, config).prepared("mri", plan) for name in config.data.sites
    }
    sizes = {name: len(item["train"]) for name, item in prepared.items()}
    for arm, expected in (
        ("pooled", ("pooled", 6, sum(sizes.values()))),
        ("local:centre-b", ("centre-b", 2, sizes["centre-b"])),
    ):
        calls.clear()
        folder = RunFolder(at / "runs" / f"arm-{arm[:6]}")
        records = train_arm(arm, folder, config, plan, prepared, silent)
        assert [(site, steps, cases) for site, _, steps, cases in calls] == [expected] * 2
        assert [item.round for item in records] == [0, 1, 2]


def changed(at, **sections):
    from shared.config.run_config import parse_config

    return parse_config(load_config(at / "toy.toml").model_dump(mode="json", exclude_none=True) | sections, "changed")


@pytest.mark.slow
def test_on_a_ray_cluster_the_numbers_are_the_same(at, tmp_path, monkeypatch):
    ray = str(Path(sys.executable).parent / "ray")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")  # an administrator's cluster: a study that loses the token is refused
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0123456789" * 4)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    head = [ray, "start", "--head", "--block", f"--port={port}", "--num-cpus=2", "--include-dashboard=false"]
    # A short path: Ray's sockets lie below it, and a socket's name has at most 107 characters.
    home = tempfile.mkdtemp(prefix="r")
    cluster = subprocess.Popen([*head, f"--temp-dir={home}"], start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if not probe.connect_ex(("127.0.0.1", port)):
                    break
            time.sleep(0.5)
        study(at, tmp_path / "out", ray_address=f"127.0.0.1:{port}")
    finally:
        cluster.terminate()
        cluster.wait(30)
        shutil.rmtree(home, ignore_errors=True)
    assert numbers(tmp_path / "out") == numbers(at / "whole")
