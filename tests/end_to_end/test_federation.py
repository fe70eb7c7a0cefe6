"""The whole federation on real DICOM, in one process: bytes, faults, resume, the locked centre, the report."""

import json
import logging
import shutil

import numpy as np
import pandas as pd
import pytest
from flwr.app import Array, ArrayRecord, MetricRecord

from client.app import app
from server.run import run
from server.run_folder.external_access import OPENED, open_once
from server.run_folder.journal import RunFolder
from server.run_folder.results import read_results
from server.studies.in_process_grid import InProcessGrid
from shared.errors import RunError
from shared.messages.payload import flatten
from shared.modalities.mri import cache as mri_cache
from shared.runtime.project import load_run_config
from shared.tasks import task_named
from shared.training import train_round
from tests.end_to_end.wire import opened, train

TASK = "lesion-segmentation"
RUN_CONFIG = {"config": "toy.toml", "seed": -1, "rounds": -1}


def silent(*_):
    pass


def federate(root, name="one", client=app, order=lambda ids: ids, resume=False, nodes=None, **grid):
    """Register and train; the folder stays locked as long as the federation lives."""
    run_config = {**RUN_CONFIG, **grid}
    folder, config = opened(root, name, run_config, resume=resume)
    return train(InProcessGrid(client, run_config, nodes or len(config.data.sites), order), config, folder)


def hashes(records):
    return [item.model_hash for item in records]


def test_scenarios_70_and_71_same_seed_same_bytes_in_any_order_of_arrival(project):
    root = project()
    reference = hashes(federate(root)[1])
    assert hashes(federate(root, "again")[1]) == reference
    assert hashes(federate(root, "reversed", order=lambda ids: ids[::-1])[1]) == reference
    assert hashes(federate(root, "other", seed=1)[1])[-1] != reference[-1]
    assert len(set(reference)) == 3


@pytest.mark.parametrize("nodes", [1, 2, 5])
def test_any_number_of_simulated_nodes_is_the_same_federation(project, nodes):
    root = project(federation={"rounds": 1})
    assert hashes(federate(root, "other", nodes=nodes)[1]) == hashes(federate(root)[1])


def test_scenario_72_a_federation_of_one_site_is_central_training(project):
    root = project(data={"sites": ["centre-b"], "external": "centre-d"})
    federation, records = federate(root)
    config = federation.config
    from shared.site import open_site

    site = open_site(root / config.data.root / "centre-b", "centre-b", config)
    cases = site.prepare("mri", federation.plans["mri"])["train"]
    model = task_named(config.task).learner.build_model(config)
    # One round is the same but for the average's own rounding; the second starts from that.
    for number, bound in ((1, 2**-28), (2, 1e-6)):
        train_round(model, cases, config, round_number=number, site="centre-b")
        federated, central = flatten(federation.folder.model(records[number])), flatten(model.state_dict())
        assert np.abs(federated - central).max() <= bound


def spoiled(change, site="centre-b"):
    """The ClientApp, with one site's training answers changed on the way out."""

    def client(message, context):
        reply = app(message, context)
        if message.metadata.message_type == "train" and reply.content["header"]["site"] == site:
            change(reply.content)
        return reply

    return client


def weights_with(value):
    def change(content):
        flat = content["weights"]["flat"].numpy().copy()
        flat[3] = value
        content["weights"] = ArrayRecord({"flat": Array(flat)})

    return change


def other_cases(content):
    content["numbers"] = MetricRecord({**content["numbers"], "cases": 10**6})


def shorter(content):
    content["weights"] = ArrayRecord({"flat": Array(content["weights"]["flat"].numpy()[:1])})


def doubles(content):
    content["weights"] = ArrayRecord({"flat": Array(content["weights"]["flat"].numpy().astype(np.float64))})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (weights_with(np.nan), "not finite"),
        (weights_with(np.inf), "not finite"),
        (other_cases, "cases"),
        (shorter, "shape"),
        (doubles, "float32 vector"),
    ],
    ids=["39-nan", "39-inf", "41-cases", "40-shape", "40-type"],
)
def test_scenarios_39_to_41_a_bad_update_is_refused_ledgered_and_does_not_bend_the_model(project, change, reason):
    root = project(federation={"rounds": 1})
    _, records = federate(root, client=spoiled(change))
    entry = records[-1].sites["centre-b"]
    assert entry.status == "refused"
    assert reason in entry.reason
    assert {records[-1].sites[name].status for name in ("centre-a", "centre-c")} == {"accepted"}

    def drop(content):
        content["numbers"] = MetricRecord({"round": 1})

    # The same as if the site had not answered: what it sent has no part in the average.
    without = federate(root, "without", client=spoiled(drop))[1]
    assert without[-1].model_hash == records[-1].model_hash


def test_scenario_8_below_min_sites_the_run_ends_and_keeps_its_last_round(project):
    root = project(federation={"min_sites": 3, "retries": 0})
    calls = []

    def client(message, context):
        reply = app(message, context)
        if message.metadata.message_type == "train" and reply.content["header"]["site"] == "centre-a":
            calls.append(1)
            if len(calls) == 2:
                weights_with(np.nan)(reply.content)
        return reply

    with pytest.raises(
        RunError, match=r"round 2 of lesion-segmentation has 2 good answers.*centre-a: weights are not finite.*resume"
    ):
        federate(root, client=client)
    folder, _ = RunFolder.resume(root / "runs" / "one")
    assert [item.round for item in folder.records(TASK)] == [0, 1]
    folder.release()


def test_scenario_13_a_run_that_was_killed_resumes_to_the_same_bytes(project):
    root = project(federation={"rounds": 3, "strategy": "fedadam"})
    reference = hashes(federate(root, "whole")[1])

    class Killed(BaseException):
        pass

    def client(message, context):
        if message.metadata.message_type == "train" and message.content["header"]["round"] == 3:
            raise Killed
        return app(message, context)

    with pytest.raises(Killed):
        federate(root, "cut", client=client)
    # The node is started with another configuration: a run is what it was begun as.
    project(federation={"rounds": 9}, seed=5)
    assert hashes(federate(root, "cut", resume=True)[1]) == reference


def test_a_resumed_run_is_drawn_with_the_seed_that_its_journal_names(project):
    root = project(federation={"rounds": 2}, seed=7)
    _, records = federate(root)
    assert [record.seed for record in records] == [7, 7, 7]
    config = root / "runs" / "one" / "config.toml"
    config.write_text(config.read_text().replace("seed = 7", "seed = 8").replace("rounds = 2", "rounds = 3"))
    with pytest.raises(RunError, match=r"round 2 of lesion-segmentation was drawn with seed 7.*now has 8"):
        federate(root, resume=True)


def test_a_site_whose_cases_changed_cannot_resume(project, tmp_path, phantom_root):
    other = tmp_path / "sites"
    shutil.copytree(phantom_root, other)
    root = project(data={"root": str(other)}, federation={"rounds": 1})
    federate(root)
    table = other / "centre-a" / "cases.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:-1]) + "\n")
    federation, _ = federate(root, resume=True)
    assert "changed since the run began" in federation.lost["centre-a"].reason


def test_a_round_reads_no_image_and_hashes_nothing(project, monkeypatch):
    root = project(federation={"rounds": 1})
    reference = hashes(federate(root)[1])

    def refuse(*_):
        raise AssertionError("a round opened the images again")

    def client(message, context):
        if message.metadata.message_type == "train":
            monkeypatch.setattr(mri_cache, "get_or_make", refuse)
        return app(message, context)

    assert hashes(federate(root, "again", client=client)[1]) == reference


@pytest.mark.parametrize("strategy", ["fedavg", "fedprox", "fedadam"])
def test_every_strategy_trains_and_differs(project, strategy):
    root = project(federation={"strategy": strategy, "rounds": 1, "fedprox": {"mu": 10.0}})
    _, records = federate(root)
    plain = project(federation={"strategy": "fedavg", "rounds": 1})
    same = hashes(federate(plain, "plain")[1]) == hashes(records)
    assert same == (strategy == "fedavg")


def test_a_site_with_a_broken_table_is_lost_and_the_rest_goes_on(project, tmp_path, phantom_root):
    other = tmp_path / "sites"
    other.mkdir()
    for name in ("centre-a", "centre-c", "centre-d"):
        (other / name).symlink_to(phantom_root / name)
    (other / "centre-b").mkdir()
    (other / "centre-b" / "site.toml").write_text('[site]\nname = "centre-b"\n')
    (other / "centre-b" / "cases.csv").write_text("patient_id,side\nJANE-DOE,up\n")
    root = project(data={"root": str(other)}, federation={"rounds": 1})
    _, records = federate(root)
    entry = records[-1].sites["centre-b"]
    assert entry.status == "failed"
    assert "TableError" in entry.reason
    assert "row 2" in entry.reason
    assert "JANE" not in entry.reason


def test_a_planted_name_in_a_crash_never_leaves_the_site(project, monkeypatch, caplog):
    root = project(federation={"rounds": 1})

    def crash(*_):
        raise ValueError("JANE DOE 1961-02-03")

    from client import local_round

    real = local_round.train
    monkeypatch.setattr(
        local_round, "train", lambda site, item: crash() if site.name == "centre-a" else real(site, item)
    )
    with caplog.at_level(logging.DEBUG):
        _, records = federate(root)
    assert records[-1].sites["centre-a"].reason.endswith("ValueError")
    written = b"".join(path.read_bytes() for path in (root / "runs").rglob("*") if path.is_file())
    assert b"DOE" not in written
    assert "DOE" not in caplog.text


def test_a_whole_run_ends_in_results_a_report_and_a_locked_centre(project, phantom_root):
    root = project()
    config = load_run_config(RUN_CONFIG)
    folder = RunFolder.create(root / "runs" / "whole", config)
    before = {path: path.stat().st_mtime_ns for path in phantom_root.rglob("*") if path.is_file()}
    grid = InProcessGrid(app, RUN_CONFIG, 3)
    rows = run(grid, config, folder, silent)
    folder.release()

    results = read_results(folder.path)
    assert list(results.rows) == rows
    assert (results.provenance.outcome, results.provenance.missing) == ("complete", ())
    chosen = results.provenance.tasks[TASK]
    hashes_used = {chosen.best, chosen.final}
    assert {row.role for row in rows} == {"validation", "test", "external"}
    assert {row.centre for row in rows if row.role == "external"} == {"centre-d"}
    predictions = pd.read_parquet(folder.path / "predictions" / f"{TASK}.parquet")
    assert set(predictions["model_hash"]) == hashes_used
    assert len(predictions) == 3 * len(hashes_used)
    dice = next(row for row in rows if row.role == "external" and row.metric == "dice")
    cases = predictions[predictions["model_hash"] == dice.model_hash]
    assert dice.value == pytest.approx(cases["dice"].mean())
    assert dice.n == 3
    page = (folder.path / "report.html").read_text()
    assert "phantom" in page.lower()
    flow = json.loads((folder.path / "cases.json").read_text())
    assert {name: sum(entry["included"].values()) for name, entry in flow.items()} == {
        "centre-a": 5,
        "centre-b": 5,
        "centre-c": 5,
        "centre-d": 3,
    }
    assert json.loads((folder.path / OPENED).read_text())["centre"] == "centre-d"
    # Scenario 65 in small: nothing below the sites' folders was touched.
    assert {path: path.stat().st_mtime_ns for path in phantom_root.rglob("*") if path.is_file()} == before
    # A finished run that is resumed is not evaluated again.
    (folder.path / "report.html").unlink()
    shutil.move(phantom_root / "centre-d", phantom_root / "gone")
    try:
        assert run(grid, config, RunFolder.resume(folder.path)[0], silent) == rows
    finally:
        shutil.move(phantom_root / "gone", phantom_root / "centre-d")
    assert (folder.path / "report.html").is_file()
    names = {path.name for path in folder.path.rglob("*")}
    assert not [name for name in names if "PH-" in name]
    written = b"".join(path.read_bytes() for path in folder.path.rglob("*") if path.is_file())
    assert b"PH-A-" not in written
    assert b"PH-D-" not in written


def test_the_locked_centre_opens_for_one_set_of_models_only(project):
    root = project()
    folder = RunFolder.create(root / "runs" / "lock", load_run_config(RUN_CONFIG))
    open_once(folder, "centre-d", {"t": ["h2", "h1"]})
    open_once(folder, "centre-d", {"t": ["h1", "h2"]})
    with pytest.raises(RunError, match="already opened"):
        open_once(folder, "centre-d", {"t": ["h3"]})
    folder.release()
