"""Classifiers in the federation on real DICOM: the chain, sites without labels, one class, the same bytes."""

import json

import numpy as np
import pandas as pd
import pytest

from client.app import app
from server.federation.rounds import Federation
from server.run import run
from server.run_folder.journal import RunFolder
from server.run_folder.results import read_results
from server.studies.in_process_grid import InProcessGrid
from shared.cohort.labels import SUBTYPES
from shared.errors import RunError
from shared.messages.payload import FEW
from shared.runtime.project import load_run_config
from shared.tasks import task_named

RUN_CONFIG = {"config": "toy.toml", "seed": -1, "rounds": -1}
TINY = {
    "rounds": 2,
    "patch": {"voxels": [16, 16, 16]},
    "training": {"batch_size": 2, "steps_per_round": 2, "learning_rate": 1e-2},
    "mirrored_copies": 1,
}
SUBTYPE = TINY | {"plane_depth": 10, "plane_width": 4, "volume_depth": 10, "volume_width": 4, "pretrained": "none"}
SECTIONS = {
    "subtype_ensemble": SUBTYPE,
    "receptor_status": TINY,
    "receptor_ki67_multitask": TINY,
    "lesion_malignancy": TINY,
}


def silent(*_):
    pass


def federate(root, *tasks, name="one", order=lambda ids: ids):
    config = load_run_config(RUN_CONFIG)
    folder = RunFolder.create(root / "runs" / name, config)
    federation = Federation(InProcessGrid(app, RUN_CONFIG, len(config.data.sites), order), config, folder, silent)
    try:
        federation.register()
        return federation, [federation.train(task_named(task)) for task in tasks or config.tasks]
    finally:
        folder.release()


def test_one_run_trains_the_chain_and_reads_the_external_centre_end_to_end(project):
    root = project(tasks=["lesion-segmentation", "subtype-ensemble"], **SECTIONS)
    config = load_run_config(RUN_CONFIG)
    folder = RunFolder.create(root / "runs" / "chain", config)
    rows = run(InProcessGrid(app, RUN_CONFIG, 3), config, folder, silent)
    folder.release()
    made = read_results(folder.path).provenance
    assert list(made.tasks) == ["lesion-segmentation", "subtype-ensemble"]
    table = pd.read_parquet(folder.path / "predictions" / "subtype-ensemble.parquet")
    best = table[table["model_hash"] == made.tasks["subtype-ensemble"].best]
    arms = {
        "federated",
        "federated:end-to-end",
        *(f"federated:{b}" for b in ("axial", "coronal", "sagittal", "volume")),
    }
    assert set(best["arm"]) == arms
    scores, truths = ([f"{part}_{name}" for name in SUBTYPES] for part in ("score", "truth"))
    assert best[scores].sum(axis=1).to_numpy() == pytest.approx(1.0, abs=1e-5)
    assert (best[truths].sum(axis=1) == 1).all()
    # The ensemble is the mean of its branches.
    by_arm = {arm: table.set_index("case").sort_index()[scores] for arm, table in best.groupby("arm")}
    branches = sum(by_arm[f"federated:{b}"] for b in ("axial", "coronal", "sagittal", "volume")) / 4
    assert np.allclose(by_arm["federated"], branches, atol=1e-6)
    assert {row.task for row in rows} == set(made.tasks)
    assert any(row.metric == "auc_macro" and row.arm == "oracle" for row in rows) == (config.data.phantom is not None)
    page = (folder.path / "report.html").read_text()
    assert "subtype-ensemble" in page
    assert "Where it looks" in page
    assert "<td>ER: positive</td>" in page
    assert "<td>Malignant: positive</td>" not in page  # no task of this run learns from it
    assert '<td class="num">few</td>' not in page  # phantoms: nobody needs to be hidden
    assert json.loads((folder.path / "external-opened.json").read_text())["centre"] == "centre-d"
    # The chain's first part is what it is alone.
    root = project()
    alone = RunFolder.create(root / "runs" / "alone", load_run_config(RUN_CONFIG))
    federation = Federation(InProcessGrid(app, RUN_CONFIG, 3), load_run_config(RUN_CONFIG), alone, silent)
    federation.register()
    assert federation.train(task_named("lesion-segmentation"))[-1].model_hash == made.tasks["lesion-segmentation"].final
    alone.release()


@pytest.mark.parametrize("task", ["subtype-ensemble", "receptor-status", "receptor-ki67-multitask"])
def test_the_same_seed_gives_the_same_bytes_in_any_order_of_arrival(project, task):
    root = project(tasks=[task], **SECTIONS)
    first = federate(root)[1][0]
    again = federate(root, name="again", order=lambda ids: ids[::-1])[1][0]
    assert [item.model_hash for item in first] == [item.model_hash for item in again]
    assert len({item.model_hash for item in first}) == 3


def test_a_site_without_ki67_takes_part_and_never_moves_the_head(project, relabelled):
    sites = relabelled("centre-b", {"ki67_percent": ""})
    root = project(
        tasks=["receptor-ki67-multitask"], data={"root": str(sites)}, federation={"min_sites": 2}, **SECTIONS
    )
    federation, (records,) = federate(root)
    assert {entry.status for entry in records[-1].sites.values()} == {"accepted"}
    with_b = federation.folder.model(records[1])
    root = project(
        tasks=["receptor-ki67-multitask"],
        data={"root": str(sites), "sites": ["centre-a", "centre-c"]},
        federation={"min_sites": 2},
        **SECTIONS,
    )
    federation, (records,) = federate(root, name="without")
    without_b = federation.folder.model(records[1])
    same = {name for name, value in with_b.items() if bool((value == without_b[name]).all())}
    head = {name for name in with_b if "heads.ki67" in name}
    # The plans differ by nothing but centre-b's fingerprint; where it is the same, the head must be the same.
    if federation.folder.plans() == RunFolder.resume(root / "runs" / "one")[0].plans():
        assert head <= same
    assert any("heads.er" in name for name in set(with_b) - same)


def test_a_site_without_any_label_of_the_task_is_not_asked(project, relabelled):
    blank = dict.fromkeys(("er", "pr", "her2", "her2_fish", "ki67_percent", "subtype"), "")
    sites = relabelled("centre-c", blank)
    root = project(tasks=["subtype-ensemble"], data={"root": str(sites)}, **SECTIONS)
    federation, (records,) = federate(root)
    assert records[-1].sites["centre-c"].status == "absent"
    assert "no label" in records[-1].sites["centre-c"].reason
    assert records[-1].sites["centre-a"].status == "accepted"
    assert federation.folder.flow()["centre-c"]["classes"]["er/missing"] == 5


def test_too_few_sites_with_labels_end_the_run(project, relabelled):
    sites = relabelled("centre-c", dict.fromkeys(("er", "pr", "her2", "her2_fish", "ki67_percent", "subtype"), ""))
    root = project(tasks=["subtype-ensemble"], data={"root": str(sites)}, federation={"min_sites": 3}, **SECTIONS)
    with pytest.raises(
        RunError, match=r"2 of 3 sites can take part in subtype-ensemble, .*centre-c: none of its cases has subtype"
    ):
        federate(root)


def test_a_site_with_a_single_class_trains_and_its_auc_is_undefined(project, relabelled):
    one = {"er": "0", "pr": "0", "her2": "0", "her2_fish": "", "ki67_percent": "60", "subtype": "triple_negative"}
    sites = relabelled("centre-a", one)
    root = project(
        tasks=["subtype-ensemble", "lesion-malignancy"], data={"root": str(sites)}, splits={"test": 0.4}, **SECTIONS
    )
    federation, (records, malignancy) = federate(root)
    assert records[-1].sites["centre-a"].status == "accepted"
    sums = federation.evaluate(records[-1], federation.folder.model(records[-1]))["centre-a"]
    assert sums.n == 2
    assert task_named("subtype-ensemble").metric("auc_triple_negative").of(sums) is None
    # Every phantom here is malignant: one class everywhere.
    assert malignancy[-1].sites["centre-b"].status == "accepted"


def test_small_class_counts_of_phantoms_are_told_as_they_are(project):
    root = project(tasks=["subtype-ensemble", "lesion-malignancy"], **SECTIONS)
    federation, _ = federate(root, "lesion-malignancy")
    classes = federation.folder.flow()["centre-a"]["classes"]
    assert classes["malignant/positive"] == 5
    assert FEW not in classes.values()
    for label in ("er", "subtype", "malignant"):
        assert sum(count for name, count in classes.items() if name.startswith(f"{label}/")) == 5
