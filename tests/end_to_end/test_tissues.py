"""Breast and fibroglandular tissue in the federation on real DICOM: beside lesions, alone, at sites without masks."""

import shutil

import numpy as np
import pandas as pd
import pytest

from client.app import app
from server.federation.rounds import Federation
from server.run import run
from server.run_folder.journal import RunFolder
from server.run_folder.results import read_results
from server.studies.in_process_grid import InProcessGrid
from shared.errors import RunError
from shared.metrics.overlap import dice
from shared.modalities.mri.fingerprint import make_plan
from shared.modalities.mri.study import read_case
from shared.modalities.mri.tissues import open_tissues
from shared.runtime.project import load_run_config
from shared.site import open_site
from shared.tasks import task_named
from tests.mri_cases import mri_cohort

RUN_CONFIG = {"config": "toy.toml", "seed": -1, "rounds": -1}
TASK = "breast-segmentation"
NO_MASKS = {"breast_mask": "", "fibroglandular_mask": ""}


def silent(*_):
    pass


def whole(root, name="one"):
    folder = RunFolder.create(root / "runs" / name, load_run_config(RUN_CONFIG))
    try:
        return folder, run(InProcessGrid(app, RUN_CONFIG, 3), load_run_config(RUN_CONFIG), folder, silent)
    finally:
        folder.release()


def federate(root, name="one", order=lambda ids: ids):
    config = load_run_config(RUN_CONFIG)
    folder = RunFolder.create(root / "runs" / name, config)
    federation = Federation(InProcessGrid(app, RUN_CONFIG, len(config.data.sites), order), config, folder, silent)
    try:
        federation.register()
        return federation, federation.train(TASK)
    finally:
        folder.release()


def test_one_run_outlines_lesions_and_tissues_and_each_is_evaluated_by_its_own_reference(project, phantom_root):
    root = project(tasks=["lesion-segmentation", TASK], splits={"validation": 0.2, "test": 0.2})
    folder, rows = whole(root)
    made = read_results(folder.path).provenance
    assert list(made.tasks) == ["lesion-segmentation", TASK]
    table = pd.read_parquet(folder.path / "predictions" / f"{TASK}.parquet")
    table = table[table["model_hash"] == made.tasks[TASK].best]
    # The reference densities are those of the files as drawn.
    drawn = []
    for case in mri_cohort(phantom_root / "centre-d").cases:
        grid = read_case(case).grid
        breast, gland = (case.load_mask(grid, kind) for kind in NO_MASKS)
        drawn.append(100 * (gland & breast).sum() / breast.sum())
        assert dice(breast, breast) == 1.0
    assert sorted(table["reference_density_percent"]) == pytest.approx(sorted(drawn), rel=1e-6)
    external = {row.metric: row for row in rows if (row.task, row.role) == (TASK, "external")}
    assert external["dice_breast"].n == 3
    assert external["mae_density"].unit == "%"
    for role in ("validation", "test"):
        assert any(row.metric == "dice_fibroglandular" and row.role == role for row in rows)
    page = (folder.path / "report.html").read_text()
    assert 'id="lesion-segmentation"' in page
    assert 'id="breast-segmentation"' in page
    assert page.count("Dice, fibroglandular tissue") >= 3
    assert "Lesion outlines, breast and fibroglandular tissue: trained at three phantom sites" in page
    assert {path.name for path in (folder.path / "pictures" / TASK).iterdir()} == {
        "best.npz",
        "median.npz",
        "worst.npz",
    }
    # The lesion's part is what it is alone.
    root = project(tasks=["lesion-segmentation"])
    alone = RunFolder.create(root / "runs" / "alone", load_run_config(RUN_CONFIG))
    federation = Federation(InProcessGrid(app, RUN_CONFIG, 3), load_run_config(RUN_CONFIG), alone, silent)
    federation.register()
    assert federation.train("lesion-segmentation")[-1].model_hash == made.tasks["lesion-segmentation"].final
    alone.release()


def test_the_same_seed_gives_the_same_bytes_in_any_order_of_arrival(project):
    root = project(tasks=[TASK])
    _, first = federate(root)
    _, again = federate(root, "again", order=lambda ids: ids[::-1])
    assert [item.model_hash for item in first] == [item.model_hash for item in again]
    assert len({item.model_hash for item in first}) == 3


def test_it_learns(project):
    root = project(tasks=[TASK], training={"steps_per_round": 15, "learning_rate": 1e-2}, federation={"rounds": 2})
    _, records = federate(root)
    first, last = records[1].validation(), records[-1].validation()
    # Everything in the box being breast would reach about 0.6.
    assert last.moments("dice_breast").mean > 0.75
    choice = task_named(TASK).choice
    assert choice.of(last) > choice.of(first)


def test_a_site_without_masks_takes_part_in_everything_but_this(project, relabelled):
    sites = relabelled("centre-b", NO_MASKS)
    root = project(tasks=["lesion-segmentation", TASK], data={"root": str(sites)})
    federation, records = federate(root)
    assert (records[-1].sites["centre-b"].status, records[-1].sites["centre-a"].status) == ("absent", "accepted")
    assert "no label" in records[-1].sites["centre-b"].reason
    assert records[-1].sites["centre-b"].validation is None
    labelled = {site.name: site.labelled for site in federation.participants.sites}
    assert (labelled["centre-b"][TASK], labelled["centre-b"]["lesion-segmentation"]) == (0, 3)
    assert labelled["centre-a"][TASK] == 3


def test_a_site_whose_kept_masks_were_cleared_makes_them_again(project, phantom_root, tmp_path, monkeypatch):
    project(tasks=[TASK], data={"sites": ["centre-a"]})
    monkeypatch.setenv("FEDBREAST_CACHE", str(tmp_path / "cache"))
    config = load_run_config(RUN_CONFIG)

    def site():
        return open_site(phantom_root / "centre-a", "centre-a", config)

    plan = make_plan(site().fingerprints()["mri"], config)
    before = [open_tissues(case).copy() for case in site().prepare("mri", plan)["train"]]
    assert site().prepared("mri", plan)["train"][0].labels.tissues
    shutil.rmtree(tmp_path / "cache" / "tissues")
    again = [open_tissues(case) for case in site().prepared("mri", plan)["train"]]
    assert all(np.array_equal(mine, theirs) for mine, theirs in zip(again, before, strict=True))


def test_too_few_sites_with_masks_end_the_run(project, relabelled):
    sites = relabelled("centre-b", NO_MASKS)
    root = project(tasks=[TASK], data={"root": str(sites)}, federation={"min_sites": 3})
    with pytest.raises(RunError, match="2 of 3 sites can take part in breast-segmentation"):
        federate(root)


def test_without_lesion_outlines_a_site_still_outlines_tissues(project, relabelled):
    sites = relabelled("centre-a", {"mask": ""})
    root = project(tasks=[TASK], data={"root": str(sites)})
    federation, records = federate(root)
    assert records[-1].sites["centre-a"].status == "accepted"
    assert records[-1].sites["centre-a"].cases == 3
    assert federation.folder.flow()["centre-a"]["excluded"] == {}


def test_an_external_centre_without_masks_is_said_to_have_evaluated_nothing(project, relabelled):
    sites = relabelled("centre-d", NO_MASKS)
    root = project(tasks=[TASK], data={"root": str(sites)}, federation={"rounds": 1})
    folder, rows = whole(root)
    assert not [row for row in rows if row.role == "external"]
    assert pd.read_parquet(folder.path / "predictions" / f"{TASK}.parquet").empty
    page = (folder.path / "report.html").read_text()
    assert "No case of centre-d has the reference or a label that this task needs" in page
    assert np.isfinite([row.value for row in rows if row.metric == "dice_breast"]).all()
