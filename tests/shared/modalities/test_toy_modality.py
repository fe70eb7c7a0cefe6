"""A toy modality and its task, added by their folder and one line in each table, in one federation with MRI."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
import torch
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from client.app import app
from server.evaluation.case_tables import TrainedModels
from server.evaluation.external_validation import validate_externally
from server.federation.rounds import Federation
from server.run import run
from server.run_folder.journal import RunFolder
from server.run_folder.results import read_results
from server.studies.in_process_grid import InProcessGrid
from shared.config.run_config import parse_config
from shared.errors import ConfigError
from shared.modalities import MODALITIES, modality_named
from shared.runtime.project import load_run_config
from shared.site import open_site
from shared.tasks import TASKS, task_named
from tests.end_to_end.study_in_place import study_in_place

ROOT = Path(__file__).resolve().parents[3]
FOLDER = "tests.shared.modalities.toy_modality"
TASK, MODALITY = "toy-er", "toy-xray"
RUN_CONFIG = {"config": "toy.toml", "seed": -1, "rounds": -1}
SITES = ("centre-a", "centre-b", "centre-c")
SIDE = 5


@pytest.fixture(autouse=True)
def _tables(monkeypatch):
    """The two lines that add them."""
    monkeypatch.setitem(MODALITIES, MODALITY, f"{FOLDER}.toy_xray")
    monkeypatch.setitem(TASKS, TASK, f"{FOLDER}.toy_task")


def pixels(row, view):
    """Brighter where the oestrogen receptor is positive; no two cases alike."""
    draws = np.random.default_rng([view, *row["patient_id"].encode()])
    return (1000 + 400 * int(row["er"] or 0) + draws.integers(0, 100, (20, 15))).astype(np.uint16)


def write_view(path, row, view):
    ds = pydicom.Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid(
        entropy_srcs=[row["patient_id"], str(view)]
    )
    ds.StudyInstanceUID = generate_uid(entropy_srcs=[row["patient_id"], "xray"])
    ds.PatientID, ds.Modality, ds.InstanceNumber = row["patient_id"], "MG", view
    image = pixels(row, view)
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = image.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    ds.PixelData = image.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, ds, enforce_file_format=True)


@pytest.fixture
def sites(tmp_path, phantom_root):
    """The toy phantom's sites; each breast of the tables also has two X-ray views and a row of them."""
    root = tmp_path / "sites"
    for folder in (item for item in phantom_root.iterdir() if item.is_dir()):
        shutil.copytree(folder, root / folder.name)
        table = root / folder.name / "cases.csv"
        with table.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        masks = dict.fromkeys(("mask", "breast_mask", "fibroglandular_mask"), "")
        added = [row | masks | {"modality": "MG", "path": f"xray/{number}"} for number, row in enumerate(rows)]
        for number, row in enumerate(added):
            for view in (2, 1):
                write_view(root / folder.name / "xray" / str(number) / f"{3 - view}.dcm", row, view)
        with table.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows + added)
    return root


@pytest.fixture
def two(project, sites):
    """A project whose run has a task of each modality."""
    fixed = {"data": {"root": str(sites)}, "toy_xray": {"side": SIDE}}
    return lambda *tasks, **sections: project(tasks=list(tasks), **fixed, **sections)


def federate(root, name, **grid):
    config = load_run_config(RUN_CONFIG)
    folder = RunFolder.create(root / "runs" / name, config)
    federation = Federation(
        InProcessGrid(app, RUN_CONFIG, len(config.data.sites), **grid), config, folder, lambda *_: None
    )
    try:
        federation.register()
        return federation, {task: federation.train(task_named(task)) for task in config.tasks}
    finally:
        folder.release()


def hashes(records):
    return [item.model_hash for item in records]


def test_one_run_trains_a_task_of_each_modality_as_if_alone_in_any_order_of_arrival(two):
    federation, both = federate(two(TASK, "lesion-segmentation"), "both")
    _, xray = federate(two(TASK), "xray", order=lambda identifiers: identifiers[::-1])
    _, mri = federate(two("lesion-segmentation"), "mri")
    assert hashes(both[TASK]) == hashes(xray[TASK])
    assert hashes(both["lesion-segmentation"]) == hashes(mri["lesion-segmentation"])
    assert len(set(hashes(both[TASK]))) == 3
    flow = federation.folder.flow()
    assert {name: sum(flow[name]["included"].values()) for name in SITES} == dict.fromkeys(SITES, 10)
    assert {site.labelled[TASK] for site in federation.participants.sites} == {3}


def test_the_plan_comes_from_all_sites_training_cases_and_travels_beside_mris(two, sites):
    federation, _ = federate(two(TASK, "lesion-segmentation"), "one")
    means = []
    for name in SITES:
        site = open_site(sites / name, name, federation.config)
        train = {case.row.patient_id for case in site.cohort.cases if site.splits[case.row.patient_id] == "train"}
        with (sites / name / "cases.csv").open(newline="") as stream:
            own = [row for row in csv.DictReader(stream) if row["modality"] == "MG" and row["patient_id"] in train]
        means += [np.mean([pixels(row, 1), pixels(row, 2)]) for row in own]
    plan = federation.plans[MODALITY]
    assert len(means) == 9
    assert plan.level == sum(round(float(mean)) for mean in means) / 9
    assert plan.side == SIDE
    kept = json.loads((federation.folder.path / "plan.json").read_text())
    assert list(kept) == [MODALITY, "mri"]
    assert RunFolder.resume(federation.folder.path)[0].plans() == federation.plans
    federation.folder.release()


def test_both_modalities_cases_of_one_breast_have_keys_of_one_form_and_one_split(two, sites):
    two(TASK, "lesion-segmentation")
    site = open_site(sites / "centre-a", "centre-a", load_run_config(RUN_CONFIG))
    by_modality = {name: [case for case in site.cohort.cases if case.modality == name] for name in (MODALITY, "mri")}
    assert {len(cases) for cases in by_modality.values()} == {5}
    for xray, mri in zip(by_modality[MODALITY], by_modality["mri"], strict=True):
        (*patient, exam, side), (*same, other, breast) = xray.key.rsplit("-", 2), mri.key.rsplit("-", 2)
        assert (patient, side) == (same, breast)
        assert exam != other


def test_a_case_is_prepared_from_its_views_whatever_order_their_files_have(two, sites):
    federation, _ = federate(two(TASK), "one")
    site = open_site(sites / "centre-b", "centre-b", federation.config)
    plan = federation.plans[MODALITY]
    cases = {case.key: case for found in site.prepared(MODALITY, plan).values() for case in found}
    with (sites / "centre-b" / "cases.csv").open(newline="") as stream:
        rows = {row["patient_id"]: row for row in csv.DictReader(stream) if row["modality"] == "MG"}
    assert len(cases) == 5
    for case in site.cohort.cases:
        row = rows[case.row.patient_id]
        # Sides of 20 and 15 pixels in 5 blocks each.
        expected = [pixels(row, view).reshape(5, 4, 5, 3).mean(axis=(1, 3)) / plan.level for view in (1, 2)]
        np.testing.assert_allclose(cases[case.key].image, expected, rtol=1e-6)


def test_a_breast_without_its_second_view_is_left_out_and_the_rest_goes_on(two, sites):
    shutil.rmtree(sites / "centre-c" / "xray" / "0")
    (sites / "centre-c" / "xray" / "1" / "1.dcm").unlink()
    federation, records = federate(two(TASK), "one")
    assert federation.folder.flow()["centre-c"]["excluded"] == {"no_images": 2}
    assert records[TASK][-1].sites["centre-c"].status == "accepted"


def test_a_site_without_the_second_modality_takes_part_in_what_it_has(two, sites):
    table = sites / "centre-c" / "cases.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join(line for line in lines if ",MG," not in line) + "\n")
    federation, records = federate(two(TASK, "lesion-segmentation"), "one")
    assert records[TASK][-1].sites["centre-c"].status == "absent"
    assert "no label" in records[TASK][-1].sites["centre-c"].reason
    assert records["lesion-segmentation"][-1].sites["centre-c"].status == "accepted"
    assert federation.folder.flow()["centre-c"]["excluded"] == {}


def test_the_external_centre_is_evaluated_by_the_brightness_that_was_learnt(two, sites):
    federation, records = federate(two(TASK, "lesion-segmentation"), "one")
    record = records[TASK][-1]
    model = federation.folder.model(record)
    assert (model["linear.weight"].sum() > 0).item()
    trained = {TASK: TrainedModels({record.model_hash: model}, record.model_hash)}
    rows = validate_externally(
        federation.folder, sites / "centre-d", federation.config, federation.plans, trained, lambda *_: None
    )
    assert {row.task for row in rows} == {TASK}
    table = pd.read_parquet(federation.folder.path / "predictions" / f"{TASK}.parquet")
    assert len(table) == 3
    weight, bias = model["linear.weight"][0], model["linear.bias"][0]
    site = open_site(sites / "centre-d", "centre-d", federation.config)
    cases = {case.key: case for found in site.prepared(MODALITY, federation.plans[MODALITY]).values() for case in found}
    for _, line in table.iterrows():
        image = torch.from_numpy(cases[line["case"]].image).flatten()
        assert line["score_er"] == pytest.approx(torch.sigmoid(weight @ (image - 1) + bias).item(), abs=1e-6)
        assert line["truth_er"] == cases[line["case"]].labels.er


def test_a_whole_run_ends_in_rows_and_a_page_of_both_tasks(two, sites):
    root = two(TASK, "lesion-segmentation")
    config = load_run_config(RUN_CONFIG)
    folder = RunFolder.create(root / "runs" / "whole", config)
    rows = run(InProcessGrid(app, RUN_CONFIG, len(SITES)), config, folder, lambda *_: None)
    folder.release()
    own = {(row.role, row.metric) for row in rows if row.task == TASK and row.value is not None}
    assert {role for role, _ in own} >= {"external", "validation", "test"}
    assert {row.task for row in rows} == {TASK, "lesion-segmentation"}
    page = (folder.path / "report.html").read_text()
    assert "Oestrogen receptor from X-rays" in page
    assert "Lesion outlines" in page
    made = read_results(folder.path).provenance
    assert list(made.tasks) == [TASK, "lesion-segmentation"]


def test_a_study_evaluates_every_arm_on_the_modalitys_cases(two, sites, monkeypatch):
    root = two(TASK, study={"held_out": ["centre-d"]})
    shutil.copy(ROOT / "pyproject.toml", root)
    config = load_run_config(RUN_CONFIG)
    out = root / "study"
    study_in_place(out, config, monkeypatch)
    table = pd.read_parquet(out / "predictions" / f"{TASK}.parquet")
    external = table[table["role"] == "external"]
    assert set(external["arm"]) == {"federated", "pooled", "ensemble", *(f"local:{name}" for name in SITES)}
    local = external[external["arm"].str.startswith("local:")].groupby("case")["score_er"].mean()
    ensemble = external[external["arm"] == "ensemble"].set_index("case")["score_er"]
    pd.testing.assert_series_equal(ensemble.sort_index(), local.sort_index(), check_names=False)
    assert len(pd.read_parquet(out / "cohort.parquet")) == 5 * len(SITES) + 3


def test_its_section_is_checked_by_its_own_class_and_kept_with_the_run(two):
    two(TASK)
    config = load_run_config(RUN_CONFIG)
    assert modality_named(MODALITY).settings(config).side == SIDE
    raw = config.model_dump(mode="json", exclude_none=True)
    assert raw["toy_xray"] == {"side": SIDE, "workers": 1}
    with pytest.raises(ConfigError, match=r"unknown key 'toy_xray\.sides'; did you mean 'toy_xray\.side'"):
        parse_config(raw | {"toy_xray": {"sides": 3}}, "toy.toml")
    with pytest.raises(ConfigError, match="unknown key 'mri'"):
        parse_config(raw | {"mri": {}}, "toy.toml")
