"""The external centre at a node of its own: sums instead of cases, the same mean as at the server."""

import json

import pytest
import tomli_w

from client.app import app
from server.reports.page import build_report
from server.run import run
from server.run_folder.external_access import OPENED
from server.run_folder.journal import RunFolder
from server.run_folder.results import read_results
from server.studies.in_process_grid import InProcessGrid
from shared.config.run_config import load_config
from shared.runtime.project import load_run_config

RUN_CONFIG = {"config": "toy.toml", "seed": -1, "rounds": -1}


def silent(*_):
    pass


def run_at_nodes(root, phantom_root, names, name, client=app):
    """A run whose nodes each hold one centre's folder, as hospitals' do."""
    config = load_run_config(RUN_CONFIG)
    folder = RunFolder.create(root / "runs" / name, config)
    grid = InProcessGrid(client, RUN_CONFIG, len(names))
    for context, site in zip(grid._contexts.values(), names, strict=True):
        context.node_config = {"site": site, "data-dir": str(phantom_root / site)}
    try:
        return config, run(grid, config, folder, silent), folder.path
    finally:
        folder.release()


@pytest.fixture
def centres():
    return ["centre-a", "centre-b", "centre-c", "centre-d"]


def test_the_node_evaluates_to_the_same_mean_as_the_server_and_its_cases_stay(project, phantom_root, centres):
    root = project(federation={"rounds": 1})
    _, here, _ = run_at_nodes(root, phantom_root, centres[:3], "here")
    _, there, folder = run_at_nodes(root, phantom_root, centres, "there")

    def figure(rows, metric):
        return next(row for row in rows if (row.role, row.metric) == ("external", metric))

    for metric in ("dice", "nsd", "hd95"):
        ours, theirs = figure(here, metric), figure(there, metric)
        assert theirs.centre == "centre-d"
        assert theirs.n == ours.n
        assert theirs.model_hash == ours.model_hash
        assert theirs.value == pytest.approx(ours.value, rel=1e-6)
    assert json.loads((folder / OPENED).read_text())["centre"] == "centre-d"
    assert json.loads((folder / "cases.json").read_text())["centre-d"]["included"] == {"external": 3}
    assert not (folder / "predictions").exists()
    page = (folder / "report.html").read_text()
    assert "External centre: centre-d, evaluated at its own node" in page
    assert f"centre-d, which never trained, evaluated at its own node: Dice {figure(there, 'dice').value:.3f}" in page
    assert tuple(there) == read_results(folder).rows


def test_a_classifier_is_evaluated_at_the_node_too_and_its_page_can_be_made_again(project, phantom_root, centres):
    task = "receptor-ki67-multitask"
    tiny = {"rounds": 1, "patch": {"voxels": [16, 16, 16]}, "training": {"batch_size": 2, "steps_per_round": 1}}
    root = project(tasks=[task], receptor_ki67_multitask=tiny | {"mirrored_copies": 1})
    _, rows, folder = run_at_nodes(root, phantom_root, centres, "classifier")
    external = {row.metric: row for row in rows if row.role == "external"}
    assert {"auc_er", "auc_pr", "auc_her2", "mae_ki67"} <= set(external)
    assert {(row.centre, row.arm) for row in external.values()} == {("centre-d", "federated")}
    error = external["mae_ki67"]
    assert not (folder / "predictions").exists()
    page = (folder / "report.html").read_text()
    assert "External centre: centre-d, evaluated at its own node" in page
    assert f'data-metric="mae_ki67" data-value="{error.value}"' in page
    assert f"Ki-67 is off by {error.value:.1f} percentage points on average (" in page
    evaluated = (folder / "participation.csv").read_text().splitlines()[-1]
    assert ",centre-d,external,accepted,,3," in evaluated
    assert build_report(folder).read_text() == page


def test_the_external_centre_does_not_train_and_a_training_site_does_not_give_all_its_cases(project, phantom_root):
    root = project(federation={"rounds": 1})
    asked = []

    def client(message, context):
        reply = app(message, context)
        header = reply.content["header"]
        asked.append((header["site"], message.metadata.message_type, message.content["header"]["split"]))
        return reply

    run_at_nodes(root, phantom_root, ["centre-a", "centre-b", "centre-c", "centre-d"], "one", client)
    external = {(kind, split) for site, kind, split in asked if site == "centre-d"}
    assert external == {("query.prepare", "validation"), ("evaluate", "external")}
    assert all(split != "external" for site, _, split in asked if site != "centre-d")

    from client import local_round
    from shared.errors import UpdateError
    from shared.messages.instruction_reply import Instruction
    from shared.site import open_site

    config = load_config(root / "toy.toml")
    site = open_site(phantom_root / "centre-d", "centre-d", config)
    with pytest.raises(UpdateError, match="no part in training"):
        local_round.train(site, Instruction("r", 1, task="lesion-segmentation"))
    with pytest.raises(UpdateError, match="no part in training"):
        local_round.fingerprint(site, Instruction("r", 0))


def test_a_policy_refusal_is_told_in_the_ledger(project, phantom_root):
    root = project(federation={"rounds": 1, "join_timeout_s": 5, "round_timeout_s": 20})
    config = load_run_config(RUN_CONFIG)
    folder = RunFolder.create(root / "runs" / "policy", config)
    grid = InProcessGrid(app, RUN_CONFIG, 3)
    for context, site in zip(grid._contexts.values(), config.data.sites, strict=True):
        context.node_config = {"site": site, "data-dir": str(phantom_root / site)}
    node = {"server": {"address": "localhost", "port": 1}, "site": {"name": "centre-b"}}
    (root / "node.toml").write_text(tomli_w.dumps(node | {"policy": {"tasks": ["subtype-ensemble"]}}))
    list(grid._contexts.values())[1].node_config["kit"] = str(root)
    run(grid, config, folder, silent)
    folder.release()
    record = folder.records("lesion-segmentation")[-1]
    assert record.sites["centre-b"].status != "accepted"
    assert [record.sites[name].status for name in ("centre-a", "centre-c")] == ["accepted", "accepted"]
    assert read_results(folder.path).provenance.outcome == "partial"
