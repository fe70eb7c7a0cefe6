"""Three commands from a download of CMMD or CBIS-DDSM to a page, by the shipped configurations with small networks."""

import json
import re
import sys
import tomllib
from pathlib import Path

import pandas as pd
import pytest
import tomli_w

from client.app import app
from server.commands import cli
from server.deployment import simulation
from server.run import run
from server.run_folder.journal import RunFolder
from server.studies.in_process_grid import InProcessGrid
from shared.config.run_config import load_config
from tests.shared.cohort.importers.downloads import write_cbis, write_cmmd

SHIPPED = Path(__file__).resolve().parents[2] / "configs"
LUMINAL, MALIGNANCY = "mammography-luminal", "mammography-malignancy"
D1, D2 = 10, 12
SUBTYPES = ("Luminal A", "Luminal B", "triple negative", "HER2-enriched")
TINY = {"size": "small", "network": "simple-cnn", "pretrained": "none", "rounds": 1}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty project in which the commands are called; Flower's own processes are tested in test_flwr_run.py."""

    def in_process(path, *, run_name, **_):
        config = load_config(path)
        folder = RunFolder.create(tmp_path / "runs" / run_name, config)
        try:
            given = {"config": str(path), "seed": -1, "rounds": -1}
            run(InProcessGrid(app, given, len(config.data.sites)), config, folder, lambda *_: None)
        finally:
            folder.release()

    monkeypatch.setenv("FEDBREAST_ROOT", str(tmp_path))
    monkeypatch.setenv("FEDBREAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FEDBREAST_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(simulation, "run_flower", in_process)
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
    return tmp_path


@pytest.fixture
def call(home, monkeypatch, capsys):
    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["fedbreast", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        assert not stop.value.code, captured.err
        return captured.out

    return command


def shrunk(home, name, change=lambda text: text):
    """The shipped configuration with the smallest networks and pictures; who trains what, and where, stays as it is."""
    raw = tomllib.loads(change((SHIPPED / f"{name}.toml").read_text()))
    for key in [key for key in raw if key.startswith("mammography_")]:
        raw[key] |= TINY | {"training": raw[key]["training"] | {"steps_per_round": 2}}
    raw |= {"mammography": {"whole_pixels": [48, 32]}, "evaluation": {"bootstrap": 100}}
    path = home / "configs" / f"{name}.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(tomli_w.dumps(raw))
    return f"configs/{name}.toml"


def cmmd(home):
    rows, images = [], {}
    for number in range(D1):
        patient = f"D1-{number + 1:04d}"
        rows.append([patient, "L", 50, 2, "mass", "Malignant" if number % 2 else "Benign", ""])
        images[patient] = "L"
    for number in range(D2):
        patient, benign = f"D2-{number + 1:04d}", number % 4 == 3
        subtype = "" if benign else SUBTYPES[number % 3]
        rows.append([patient, "R", 50, 2, "mass", "Benign" if benign else "Malignant", subtype])
        images[patient] = "R"
    return write_cmmd(home / "CMMD-download", rows, images)


def cbis(home):
    lines = [
        ("mass_test" if number % 3 == 0 else "mass_train", f"P_{number:05d}", "2", "LEFT", view, "1", pathology)
        for number in range(12)
        for view, pathology in (("CC", ("BENIGN", "MALIGNANT")[number % 2]), ("MLO", "BENIGN"))
    ]
    return write_cbis(home / "CBIS-download", lines)


def results(folder):
    table = pd.read_csv(folder / "results.csv")
    return {(task, role): set(rows["centre"]) for (task, role), rows in table[table["n"] > 0].groupby(["task", "role"])}


def test_cmmd_from_its_folder_to_a_page_with_subtypes_of_d2_and_malignancy_of_both(home, call):
    config = shrunk(home, "cmmd")
    said = call("import", "cmmd", cmmd(home), "--out", "sites")
    assert said.splitlines()[-1] == f"then: fedbreast run {config}"
    call("run", config, "--name", "first")
    folder = home / "runs" / "first"
    # CMMD has no outlines: the whole breast is read, and nobody is left out for want of one.
    flow = json.loads((folder / "cases.json").read_text())
    assert {name: (sum(item["included"].values()), item["excluded"]) for name, item in flow.items()} == {
        "cmmd-d1": (D1, {}),
        "cmmd-d2": (D2, {}),
    }
    journal = json.loads((folder / "journal" / LUMINAL / "round-001.json").read_text())
    assert {name: item["status"] for name, item in journal["sites"].items()} == {
        "cmmd-d1": "absent",
        "cmmd-d2": "accepted",
    }
    registered = json.loads((folder / "registered.json").read_text())
    assert {name: [item["labelled"][task] for task in (LUMINAL, MALIGNANCY)] for name, item in registered.items()} == {
        "cmmd-d1": [0, D1],
        "cmmd-d2": [D2 - D2 // 4, D2],
    }
    told = results(folder)
    assert told[LUMINAL, "test"] - {"all"} == {"cmmd-d2"}
    assert told[MALIGNANCY, "test"] - {"all"} == {"cmmd-d1", "cmmd-d2"}
    assert "external" not in {role for _, role in told}
    page = (folder / "report.html").read_text()
    assert "No external centre evaluated it: internal figures flatter." in page
    assert {"Luminal or not, mammography", "Triple negative or not, mammography", "Malignancy, mammography"} <= set(
        re.findall(r"[^<>]+, mammography", page)
    )


def test_cbis_ddsm_from_its_folder_to_a_page_tested_on_its_published_patients(home, call):
    config = shrunk(home, "cbis-ddsm")
    said = call("import", "cbis-ddsm", cbis(home), "--out", "sites")
    assert said.splitlines()[-1] == f"then: fedbreast run {config}"
    call("run", config, "--name", "first")
    folder = home / "runs" / "first"
    flow = json.loads((folder / "cases.json").read_text())["cbis-ddsm"]
    assert (flow["included"], flow["excluded"]) == ({"test": 4, "train": 7, "validation": 1}, {})
    assert "Malignancy, mammography" in (folder / "report.html").read_text()


@pytest.mark.slow
def test_both_sets_are_a_study_that_leaves_each_of_three_centres_out(home, call):
    """By the two lines that the configuration of CBIS-DDSM names for that."""

    def together(text):
        text = text.replace('sites = ["cbis-ddsm"]\n', "", 1).replace("test = 0.0", "test = 0.2", 1)
        return text.replace("# sites = [", "sites = [", 1).replace("# external =", "external =", 1)

    config = shrunk(home, "cbis-ddsm", together)
    call("import", "cmmd", cmmd(home), "--out", "sites")
    call("import", "cbis-ddsm", cbis(home), "--out", "sites")
    call("study", config, "--jobs", "1", "--arms", "local,federated")
    summary = pd.read_csv(home / "runs" / "study-cbis-ddsm" / "summary.csv")
    external = summary[(summary["role"] == "external") & (summary["metric"] == "auc_malignant")]
    assert {"cbis-ddsm", "cmmd-d1", "cmmd-d2"} <= set(external["centre"])
    assert (home / "runs" / "study-cbis-ddsm" / "report.html").is_file()
