"""What a run will need later is known before it trains, and what finished before something failed is reported."""

import csv
import re
from collections import Counter

import pytest
from flwr.app import Error, Message

import client.policy
from client.app import app
from server.run import run
from server.run_folder.journal import RunFolder
from server.run_folder.results import read_results
from server.studies.in_process_grid import InProcessGrid
from shared.errors import RunError, SiteError
from shared.policy import OPEN
from shared.runtime.project import load_run_config
from tests.end_to_end.wire import RUN_CONFIG
from tests.wards import as_hospital

FIRST, SECOND = "lesion-segmentation", "receptor-status"
TINY = {"rounds": 3, "patch": {"voxels": [8, 8, 8]}, "training": {"batch_size": 2, "steps_per_round": 1}}
TWO_TASKS = {"tasks": [FIRST, SECOND], "receptor_status": TINY | {"mirrored_copies": 1}, "federation": {"rounds": 1}}
SITES = ("centre-a", "centre-b", "centre-c")
CENTRES = (*SITES, "centre-d")


@pytest.fixture
def hospitals(tmp_path, phantom_root, monkeypatch):
    """Copies of phantom centres that are hospitals' in every way that can be told; `change` alters rows of a table."""

    monkeypatch.setattr(client.policy, "Policy", lambda: OPEN)  # these have five patients each

    def copy(*names, change=None):
        for name in names:
            folder = tmp_path / "wards" / name
            if not folder.exists():
                as_hospital(phantom_root / name, folder)
            if change:
                with (folder / "cases.csv").open(newline="") as stream:
                    rows = [row | change for row in csv.DictReader(stream)]
                with (folder / "cases.csv").open("w", newline="") as stream:
                    writer = csv.DictWriter(stream, list(rows[0]))
                    writer.writeheader()
                    writer.writerows(rows)
        return tmp_path / "wards"

    return copy


def grid_of(folders, client=app):
    """A grid of nodes that each hold one centre's folder, as a hospital's does."""
    grid = InProcessGrid(client, RUN_CONFIG, len(folders))
    for context, (site, folder) in zip(grid._contexts.values(), folders.items(), strict=True):
        context.node_config = {"site": site, "data-dir": str(folder)}
    return grid


def run_at(root, grid, name="one", *, resume=False):
    path = root / "runs" / name
    folder, config = RunFolder.resume(path) if resume else (None, load_run_config(RUN_CONFIG))
    folder = folder or RunFolder.create(path, config)
    try:
        return run(grid, config, folder, lambda *_: None), path
    finally:
        folder.release()


def text_of(page):
    body = re.sub(r"<style>.*?</style>|<svg.*?</svg>", "", page, flags=re.DOTALL).split("Configuration as run")[0]
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def asked(seen, client=app):
    def answer(message, context):
        seen[message.metadata.message_type] += 1
        return client(message, context)

    return answer


@pytest.mark.parametrize("made", [{}, {"phantom": {"cases_per_site": 5, "cases_external": 3}}])
def test_a_consortium_whose_external_centre_is_a_hospital_ends_with_its_report_and_nobody_passes_for_phantoms(
    project, hospitals, made
):
    wards = hospitals(*CENTRES)
    root = project(data={"root": "nowhere", **made}, federation={"rounds": 1})
    rows, path = run_at(root, grid_of({name: wards / name for name in CENTRES}))
    assert {(row.centre, row.role) for row in rows if row.role == "external"} == {("centre-d", "external")}
    results = read_results(path)
    assert (results.provenance.phantom, results.provenance.outcome) == (False, "complete")
    page = (path / "report.html").read_text()
    assert "phantom" not in text_of(page).lower()
    assert "trained at three hospitals, evaluated at one that never trained" in text_of(page)
    # Its report can be made again, and the run be resumed, without any folder.
    (path / "report.html").unlink()
    assert run_at(root, None, resume=True)[0] == list(results.rows)
    assert (path / "report.html").read_text() == page


def test_sites_that_hold_phantoms_say_so_though_no_configuration_does(project, phantom_root):
    root = project(data={"root": "nowhere"}, federation={"rounds": 1})
    _, path = run_at(root, grid_of({name: phantom_root / name for name in CENTRES}))
    page = text_of((path / "report.html").read_text())
    assert "PHANTOM DATA, not patients." in page
    assert "trained at three phantom sites" in page


def test_a_mixed_run_says_which_sites_are_phantoms(project, phantom_root, hospitals):
    wards = hospitals("centre-a", "centre-d")
    root = project(data={"root": "nowhere"}, federation={"rounds": 1})
    folders = {name: (wards if name in {"centre-a", "centre-d"} else phantom_root) / name for name in CENTRES}
    _, path = run_at(root, grid_of(folders))
    made = read_results(path).provenance
    assert (made.phantom, made.phantom_sites) == (True, ("centre-b", "centre-c"))
    page = text_of((path / "report.html").read_text())
    assert "PHANTOM DATA among patients'. The images of centre-b, centre-c were made from equations" in page.replace(
        "&#39;", "'"
    )
    assert "trained at three sites, evaluated at a hospital that never trained" in page
    assert "centre-b training, phantom" in page
    assert "centre-a training 5" in page
    assert "cases of centre-d, which never trained" in page
    assert "phantom cases of centre-d" not in page


def test_no_best_possible_figure_is_invented_for_patients(project, hospitals, monkeypatch):
    """The simulation's way: the external centre's folder lies on the server, and the configuration names phantoms."""
    from server.evaluation import external_validation

    calls = []
    monkeypatch.setattr(external_validation, "_oracle", lambda *_: calls.append(1) or {})
    wards = hospitals(*CENTRES)
    root = project(data={"root": str(wards), "phantom": {}}, federation={"rounds": 1})
    _, path = run_at(root, grid_of({name: wards / name for name in SITES}))
    assert calls == []
    assert not read_results(path).provenance.phantom


def test_a_run_whose_second_task_cannot_start_is_refused_in_one_line_before_the_first_trains(project, hospitals):
    none = dict.fromkeys(("er", "pr", "her2", "her2_fish"), "")
    wards = hospitals(*CENTRES, change=none)
    root = project(**TWO_TASKS, data={"root": "nowhere"})
    seen = Counter()
    with pytest.raises(RunError) as caught:
        run_at(root, grid_of({name: wards / name for name in CENTRES}, asked(seen)))
    lacks = "none of its cases has er or pr or her2 and an outline of the lesion"
    assert str(caught.value) == (
        f"0 of 3 sites can take part in {SECOND}, federation.min_sites is 1 (centre-a: {lacks}; "
        f"centre-b: {lacks}; centre-c: {lacks}): mend that at the sites, or take {SECOND} out of 'tasks'"
    )
    assert seen == {"query.register": 4}  # no image was read
    assert not (root / "runs" / "one" / "journal").exists()


def test_labels_that_only_cases_outside_the_training_split_have_are_missed_before_the_first_trains(project, hospitals):
    names = {"split": "test", "er": "", "pr": "", "her2": "", "her2_fish": ""}
    wards = hospitals(*CENTRES)
    for name in SITES:
        table = wards / name / "cases.csv"
        with table.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        (first, *others) = rows
        rows = [first | {"split": "test"}, *(row | names | {"split": "train"} for row in others)]
        with table.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    root = project(**TWO_TASKS, data={"root": "nowhere"})
    seen = Counter()
    with pytest.raises(RunError, match=rf"^0 of 3 sites can take part in {SECOND}.*has er or pr or her2.*'tasks'$"):
        run_at(root, grid_of({name: wards / name for name in CENTRES}, asked(seen)))
    assert (seen["query.prepare"], seen["train"]) == (3, 0)


def test_an_external_centre_that_is_nowhere_or_unreadable_is_missed_before_anything_is_prepared(
    project, phantom_root, hospitals
):
    root = project(data={"root": "nowhere"}, federation={"rounds": 1, "join_timeout_s": 0.5})
    seen = Counter()
    sites = {name: phantom_root / name for name in SITES}
    with pytest.raises(RunError, match=r"'centre-d' has no node and no folder here: start its node, or take it out of"):
        run_at(root, grid_of(sites, asked(seen)))
    table = hospitals("centre-d") / "centre-d" / "cases.csv"
    table.write_text("patient_id,side\nJANE-DOE,up\n")
    with pytest.raises(RunError, match=r"'centre-d' cannot read its folder: see the log at its node") as caught:
        run_at(root, grid_of(sites | {"centre-d": table.parent}, asked(seen)), "two")
    assert "DOE" not in str(caught.value)
    project(data={"root": str(table.parents[1])}, federation={"rounds": 1})
    with pytest.raises(SiteError, match="row 2"):  # the same in a simulation, by the folder here
        run_at(root, grid_of(sites, asked(seen)), "three")
    assert set(seen) == {"query.register"}


def failing(site_task, number, sites=SITES):
    """The ClientApp, whose training of a task fails in a round."""

    def client(message, context):
        header = message.content["header"]
        if message.metadata.message_type == "train" and (header["task"], header["round"]) == (site_task, number):
            return Message(Error(code=8, reason="JANE DOE"), reply_to=message)
        return app(message, context)

    return client


def test_a_task_that_fails_at_round_3_leaves_the_first_ones_report_and_the_run_can_go_on(
    project, phantom_root, monkeypatch
):
    root = project(**TWO_TASKS, data={"root": "nowhere"})
    folders = {name: phantom_root / name for name in CENTRES}
    whole, _ = run_at(root, grid_of(folders), "whole")
    with pytest.raises(RunError, match=rf"^round 3 of {SECOND} has 0 good answers.*mend and resume$"):
        run_at(root, grid_of(folders, failing(SECOND, 3)))
    path = root / "runs" / "one"
    results = read_results(path)
    assert (results.provenance.outcome, list(results.provenance.tasks)) == ("failed", [FIRST])
    assert list(results.provenance.unfinished) == [SECOND]
    assert list(results.rows) == [row for row in whole if row.task == FIRST]
    page = text_of((path / "report.html").read_text())
    assert f"Not finished: {SECOND}. round 3 of {SECOND} has 0 good answers" in page
    assert "Dice" in page
    assert "Receptor status" not in page
    assert "DOE" not in page
    rows, _ = run_at(root, grid_of(folders), resume=True)
    assert rows == whole
    assert read_results(path).provenance.outcome == "complete"
    assert "Not finished" not in text_of((path / "report.html").read_text())


def test_an_external_centre_that_fails_at_the_end_costs_no_report_of_the_training_sites(project, phantom_root):
    root = project(federation={"rounds": 1, "retries": 0}, data={"root": "nowhere"})
    folders = {name: phantom_root / name for name in CENTRES}

    def broken(message, context):
        if message.content["header"]["split"] == "external":
            return Message(Error(code=8, reason="died"), reply_to=message)
        return app(message, context)

    with pytest.raises(RunError, match="external centre 'centre-d' did not evaluate"):
        run_at(root, grid_of(folders, broken))
    path = root / "runs" / "one"
    page = text_of((path / "report.html").read_text())
    assert "Not finished: the evaluation at centre-d." in page
    assert "centre-d did not evaluate it before the run failed: internal figures flatter." in page
    rows, _ = run_at(root, grid_of(folders), resume=True)
    assert {row.role for row in rows} == {"validation", "test", "external"}


def test_the_simulations_external_centre_that_fails_at_the_end_costs_no_report_either(
    project, phantom_root, monkeypatch
):
    from server.evaluation import external_validation

    root = project(federation={"rounds": 1})
    sites = {name: phantom_root / name for name in SITES}

    def crash(*_args, **_keys):
        raise MemoryError("JANE DOE")

    monkeypatch.setattr(external_validation, "evaluate_models", crash)
    with pytest.raises(MemoryError):
        run_at(root, grid_of(sites))
    page = text_of((root / "runs" / "one" / "report.html").read_text())
    assert "Not finished: the evaluation at centre-d. MemoryError, see log.jsonl" in page
    assert "DOE" not in page
