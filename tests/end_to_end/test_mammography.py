"""Mammography in the federation, from DICOM to pages: two tasks, sites that lack labels, bad files, MRI beside it."""

import csv
import html
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from client.app import app
from server.federation.rounds import Federation
from server.reports.page import build_report
from server.run import run
from server.run_folder.journal import RunFolder
from server.studies.in_process_grid import InProcessGrid
from shared.runtime.project import load_run_config
from shared.tasks import task_named
from tests.shared.modalities.mammography.conftest import FULL_WINDOW, Mammogram, drawing, shown, write_breasts

RUN_CONFIG = {"config": "toy.toml", "seed": -1, "rounds": -1}
SITES = ("centre-a", "centre-b", "centre-c")
BOTH = ("CC", "MLO")
HER2, MALIGNANCY = "mammography-her2", "mammography-malignancy"
CNN, RADIOMICS, AREA = f"{HER2}-cnn", f"{HER2}-radiomics", "auc_her2"
TINY = {
    "network": "simple-cnn",
    "rounds": 2,
    "training": {"batch_size": 4, "steps_per_round": 6, "learning_rate": 0.01},
}


def breasts_of(name, patients, *, her2=True):
    """Each patient has a breast with a lesion and one without."""
    given = []
    for number in range(patients):
        known = {"her2": "3+" if number % 2 else "0"} if her2 else {}
        patient = f"{name}-{number}"
        given.append((patient, "left", BOTH, BOTH, {**known, "er": 1, "pr": 1, "ki67_percent": 9, "malignant": 1}))
        given.append((patient, "right", BOTH, (), {"malignant": 0}))
    return given


@pytest.fixture
def sites(tmp_path):
    root = tmp_path / "sites"
    for name in (*SITES, "centre-d"):
        write_breasts(root, name, breasts_of(name, 8))
    return root


@pytest.fixture
def made(project, sites):
    """A project that trains these tasks on the sites."""

    def make(*tasks, **more):
        own = {
            task.replace("-", "_"): {key: TINY[key] for key in TINY if key != "network" or task in {HER2, MALIGNANCY}}
            for task in tasks
            if task.startswith("mammography")
        }
        fixed = {"data": {"root": str(sites)}, "mammography": {"margin": 8, "roi_pixels": 32, "whole_pixels": [48, 32]}}
        return project(tasks=list(tasks), **fixed, **own, **more)

    return make


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


def test_a_run_ends_in_scores_of_both_views_and_each_and_in_a_page(made):
    root = made(HER2, MALIGNANCY)
    config = load_run_config(RUN_CONFIG)
    folder = RunFolder.create(root / "runs" / "whole", config)
    rows = run(InProcessGrid(app, RUN_CONFIG, len(SITES)), config, folder, lambda *_: None)
    folder.release()
    told = {(row.task, row.role) for row in rows if row.metric.startswith("auc_") and row.value is not None}
    assert told >= {(task, role) for task in (HER2, MALIGNANCY) for role in ("external", "validation")}
    table = pd.read_parquet(folder.path / "predictions" / f"{HER2}.parquet")
    by_arm = {arm: own.set_index("case")["score_her2"].sort_index() for arm, own in table.groupby("arm")}
    both, cc, mlo = (by_arm[arm] for arm in ("federated", "federated:CC", "federated:MLO"))
    assert len(both) == 8
    np.testing.assert_allclose(both, (cc + mlo) / 2, atol=1e-6)
    assert len(pd.read_parquet(folder.path / "predictions" / f"{MALIGNANCY}.parquet").query("arm == 'federated'")) == 16
    sides = pd.read_parquet(folder.path / "predictions" / f"{MALIGNANCY}.parquet").query("arm == 'asymmetry'")
    assert len(sides) == 16
    np.testing.assert_allclose(sides.groupby("patient")["score_malignant"].sum(), 1.0)
    stored = {row.arm: row for row in rows if (row.task, row.metric) == (MALIGNANCY, "auc_malignant")}
    assert stored["asymmetry"].n == 16
    assert "asymmetry" not in by_arm  # of HER2, which concerns the breast with the lesion
    # A bright square is what HER2 is here: it was learnt, and holds at the centre that never trained.
    auc = next(row for row in rows if (row.task, row.role, row.metric) == (HER2, "external", "auc_her2"))
    assert auc.value > 0.9
    page = (folder.path / "report.html").read_text()
    assert "HER2, mammography" in page
    assert "Malignancy, mammography" in page
    assert '<th scope="row" class="nowrap">Asymmetry</th>' in page
    assert "where every patient has one positive breast" in page
    assert "MRI and mammography" not in page  # nothing of one modality alone
    assert not any(row.arm.startswith("both") for row in rows)
    check_heat(folder.path, page)


def check_heat(folder, page):
    """A heat map for each class on the page, which can be made again from the folder alone."""
    stored = {path.name for path in (folder / "pictures").iterdir()}
    assert stored == {
        f"grad-cam-{task}-{name}.npz"
        for task, names in ((HER2, ("her2", "rest")), (MALIGNANCY, ("malignant", "rest")))
        for name in names
    }
    table = pd.read_parquet(folder / "predictions" / f"grad-cam-{HER2}.parquet")
    assert table.groupby("network")["case"].nunique().to_dict() == {"trained": 8, "untrained": 8}
    assert page.count("Where it looks") == 2
    assert page.count('<th scope="row">heat of the trained network</th>') == 2
    for title in ("HER2: yes", "HER2: no", "Malignant: yes", "Malignant: no"):
        assert page.count(f'aria-label="CC and MLO of one breast (n = 1). {title}, predicted') == 2
    assert build_report(folder).read_text() == page


def test_a_page_shows_the_network_its_rivals_and_what_sets_them_apart(made):
    root = made(HER2, CNN, RADIOMICS)
    config = load_run_config(RUN_CONFIG)
    folder = RunFolder.create(root / "runs" / "rivals", config)
    rows = run(InProcessGrid(app, RUN_CONFIG, len(SITES)), config, folder, lambda *_: None)
    folder.release()
    areas = {row.task: row for row in rows if (row.arm, row.role) == ("federated", "external") and row.metric == AREA}
    assert list(areas) == [HER2, CNN, RADIOMICS]
    assert areas[RADIOMICS].value > 0.9  # a bright square is what HER2 is here
    page = (folder.path / "report.html").read_text()
    (section,) = re.findall(f'<section id="{HER2}".*?</section>', page, re.DOTALL)
    lines = re.findall(r'<th scope="row" class="nowrap">(.*?)</th>', section)
    assert lines[:5] == ["Network", "CC alone", "MLO alone", "Simple CNN", "Radiomics"]
    text = " ".join(re.sub(r"<[^>]+>", " ", section).split())
    assert ">HER2, mammography: trained at " in page  # without its rivals
    assert "Its rivals on these cases: simple CNN " in text
    assert "(HER2, mammography: radiomics), trained in the same federation" in text
    assert "Differences from the network's AUC" in html.unescape(text)


@pytest.mark.parametrize("task", [HER2, RADIOMICS])
def test_any_order_of_arrival_gives_the_same_models(made, task):
    _, one = federate(made(task), "one")
    _, two = federate(made(task), "two", order=lambda identifiers: identifiers[::-1])
    hashes = [[item.model_hash for item in records[task]] for records in (one, two)]
    assert hashes[0] == hashes[1]
    assert len(set(hashes[0])) == 3


def test_a_site_without_subtypes_trains_malignancy_alone(made, sites):
    shutil.rmtree(sites / "centre-b")
    write_breasts(sites, "centre-b", breasts_of("centre-b", 8, her2=False))
    _, records = federate(made(HER2, MALIGNANCY), "one")
    assert records[HER2][-1].sites["centre-b"].status == "absent"
    assert "no label" in records[HER2][-1].sites["centre-b"].reason
    assert records[MALIGNANCY][-1].sites["centre-b"].status == "accepted"


def spoil(site, number, *, views=BOTH, **given):
    """Other views in place of a breast's own."""
    for view in views:
        path = site / f"images-{number}" / f"{view}.dcm"
        item = Mammogram(shown(drawing(view)[0]), "L", view, tags={**FULL_WINDOW, **given.get("tags", {})})
        item.stored = given.get("stored", item.stored)
        item.write(path, given.get("syntax", "explicit"), given.get("cut"))


def test_bad_files_leave_their_breast_out_by_name_and_the_rest_goes_on(made, sites):
    site = sites / "centre-c"
    spoil(site, 0, tags={"ImageLaterality": ""})
    spoil(site, 2, tags={"ImageLaterality": "R"})
    spoil(site, 4, tags={"ViewPosition": "XCCL", "ViewCodeSequence": []})
    spoil(site, 6, stored=np.zeros((240, 180), np.uint16))
    spoil(site, 8, syntax="jpeg-2000", cut=200)
    spoil(site, 10, tags={"NumberOfFrames": 30})
    spoil(site, 12, tags={"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"})
    federation, records = federate(made(HER2, MALIGNANCY), "one")
    excluded = federation.folder.flow()["centre-c"]["excluded"]
    assert excluded == {
        "no_laterality": 1, "laterality_conflict": 1, "other_view": 1, "blank_image": 1, "unreadable_file": 1,
        "tomosynthesis": 1,
    }  # fmt: skip
    # The seventh is inverted by its tag alone: its background shows it, and it is read.
    assert records[MALIGNANCY][-1].sites["centre-c"].status == "accepted"
    assert sum(federation.folder.flow()["centre-c"]["included"].values()) == 10


def rows_of(site):
    with (site / "cases.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def add_mri(sites, name, phantom_root, known=lambda _number: {}):
    """Put the phantom's MRI beside a site's mammograms; `known` are labels of an exam in place of its own."""
    mammograms = rows_of(sites / name) if (sites / name / "cases.csv").is_file() else []
    rows = [row | known(number) for number, row in enumerate(rows_of(phantom_root / name))]
    shutil.copytree(phantom_root / name, sites / name, dirs_exist_ok=True)
    with (sites / name / "cases.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), restval="")
        writer.writeheader()
        writer.writerows([*rows, *mammograms])


def test_one_run_trains_mri_and_mammography_over_sites_of_either_or_both(made, sites, phantom_root):
    """`centre-a` has both, `centre-b` mammograms alone, `centre-c` MRI alone."""
    add_mri(sites, "centre-a", phantom_root)
    (sites / "centre-c" / "cases.csv").unlink()
    add_mri(sites, "centre-c", phantom_root)
    shutil.rmtree(sites / "centre-d")
    shutil.copytree(phantom_root / "centre-d", sites / "centre-d")
    federation, records = federate(made("lesion-segmentation", MALIGNANCY), "mixed")
    status = {
        task: {name: records[task][-1].sites[name].status for name in SITES}
        for task in ("lesion-segmentation", MALIGNANCY)
    }
    assert status == {
        "lesion-segmentation": {"centre-a": "accepted", "centre-b": "absent", "centre-c": "accepted"},
        MALIGNANCY: {"centre-a": "accepted", "centre-b": "accepted", "centre-c": "absent"},
    }
    assert list(json.loads((federation.folder.path / "plan.json").read_text())) == ["mri", "mammography"]


def test_breasts_of_both_modalities_are_fused_beside_each_alone(project, tmp_path, phantom_root):
    root = tmp_path / "sites"
    for name in (*SITES, "centre-d"):
        # The external centre's last MRI has no mammogram, and it has a mammogram without MRI.
        own = rows_of(phantom_root / name)[: 2 if name == "centre-d" else None]
        given = [
            (row["patient_id"], row["side"], BOTH, BOTH, {"her2": "3+" if number % 2 else "0"})
            for number, row in enumerate(own)
        ]
        write_breasts(root, name, [*given, (f"{name}-other", "left", BOTH, BOTH, {"her2": "0"})])
        none = dict.fromkeys(("er", "pr", "subtype", "her2_fish"), "")
        add_mri(root, name, phantom_root, lambda number, none=none: none | {"her2": "3+" if number % 2 else "0"})
    training = {"batch_size": 2, "steps_per_round": 1}
    project(
        tasks=["receptor-status", HER2],
        data={"root": str(root)},
        mammography={"margin": 8, "roi_pixels": 32, "whole_pixels": [48, 32]},
        receptor_status={"rounds": 1, "patch": {"voxels": [16, 16, 16]}, "training": training, "mirrored_copies": 1},
        mammography_her2=TINY | {"rounds": 1, "training": training},
        evaluation={"explained_per_subtype": 0},
    )
    config = load_run_config(RUN_CONFIG)
    folder = RunFolder.create(tmp_path / "runs" / "both", config)
    rows = run(InProcessGrid(app, RUN_CONFIG, len(SITES)), config, folder, lambda *_: None)
    folder.release()
    alone = {}
    for task in ("receptor-status", HER2):
        table = pd.read_parquet(folder.path / "predictions" / f"{task}.parquet").query("arm == 'federated'")
        alone[task] = {
            (case.rsplit("-", 2)[0], case[-1]): score
            for case, score in zip(table["case"], table["score_her2"], strict=True)
        }
    assert [len(scores) for scores in alone.values()] == [3, 3]
    both = sorted(alone["receptor-status"].keys() & alone[HER2].keys())
    odds = [np.sqrt(np.prod([scores[key] / (1 - scores[key]) for scores in alone.values()])) for key in both]
    table = pd.read_parquet(folder.path / "predictions" / f"receptor-status-and-{HER2}.parquet")
    fused = table[table["arm"] == f"both:{HER2}:fusion"]
    assert fused["patient"].tolist() == [patient for patient, _ in both]
    np.testing.assert_allclose(fused["score_her2"], [value / (1 + value) for value in odds], rtol=1e-6)
    stored = {row.arm: row.n for row in rows if row.metric == "auc_her2" and row.arm.startswith("both:")}
    assert stored == dict.fromkeys((f"both:{HER2}:{who}" for who in ("fusion", "mri", "mammography")), 2)
    page = (folder.path / "report.html").read_text()
    assert "HER2, MRI and mammography together at centre-d" in page
    assert '<th scope="row" class="nowrap">Fusion</th>' in page
    assert "Left out: 2 breasts that only one answered." in page
    assert build_report(folder.path).read_text() == page
