"""A site's side: which folder it opens, how it splits, what it answers."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from flwr.app import ConfigRecord, Message, Metadata, RecordDict

import client.app
from client import local_round
from client.site_log import own_log
from shared.cohort.preflight import Cohort, Exclusion
from shared.config.run_config import parse_config
from shared.errors import ConfigError, UpdateError
from shared.messages.instruction_reply import Instruction
from shared.policy import OPEN, Policy
from shared.site import Site, held_sites

TASK = "lesion-segmentation"
CONFIG = parse_config({"name": "t", "data": {"root": "data", "sites": ["north", "south"]}}, "t")


def test_a_hospital_names_its_own_folder_and_the_server_cannot(tmp_path):
    node = {"data-dir": str(tmp_path / "north"), "partition-id": 1}
    assert held_sites(node, CONFIG) == {"north": tmp_path / "north"}
    assert list(held_sites({"data-dir": "/mnt/pacs-export", "site": "south"}, CONFIG)) == ["south"]


def test_a_hospital_that_is_not_in_the_consortium_is_refused():
    with pytest.raises(ConfigError, match=r"site 'east' is not a centre of the run \(north, south\)"):
        held_sites({"data-dir": "/mnt/x", "site": "east"}, CONFIG)
    # The name of a folder is told to nobody: it may be a patient's.
    with pytest.raises(ConfigError, match=r"^this node's site is not a centre of the run \(north, south\)$"):
        held_sites({"data-dir": "/mnt/east"}, CONFIG)


@pytest.mark.parametrize("nodes", [1, 2, 3])
def test_simulated_nodes_share_the_sites_whatever_their_number(monkeypatch, tmp_path, nodes):
    monkeypatch.setenv("FEDBREAST_ROOT", str(tmp_path))
    held = [held_sites({"partition-id": number, "num-partitions": nodes}, CONFIG) for number in range(nodes)]
    assert sorted(name for sites in held for name in sites) == ["north", "south"]
    assert held[0]["north"] == tmp_path / "data" / "north"


def test_a_node_without_data_is_explained():
    with pytest.raises(ConfigError, match="data-dir"):
        held_sites({}, CONFIG)


def test_a_server_may_not_ask_for_the_training_cases_to_be_evaluated():
    with pytest.raises(UpdateError, match="not one a server may ask"):
        local_round.evaluate(
            SimpleNamespace(name="north", config=CONFIG, prepared=lambda *_: {}),
            Instruction("r", 1, {"mri": SimpleNamespace()}, split="train", task=TASK),
        )


def test_an_instruction_without_a_plan_is_refused():
    with pytest.raises(UpdateError, match="no preprocessing plan"):
        local_round.train(Site(Path("north"), "north", CONFIG), Instruction("r", 1, task=TASK))


def test_another_model_than_the_sites_own_code_builds_is_refused():
    site = SimpleNamespace(
        name="north", config=CONFIG, policy=OPEN, prepared=lambda *_: {"train": [], "validation": [], "test": []}
    )
    plans = {"mri": SimpleNamespace()}
    with pytest.raises(UpdateError, match="other names, shapes or types"):
        local_round.train(site, Instruction("r", 1, plans, manifest="another", task=TASK))


@pytest.mark.parametrize("number", [0, CONFIG.federation.rounds + 1])
def test_a_round_that_the_run_does_not_have_is_refused(number):
    site = SimpleNamespace(name="north", config=CONFIG)
    with pytest.raises(UpdateError, match=f"round {number} is asked for, the run has {CONFIG.federation.rounds}"):
        local_round.train(site, Instruction("r", number, {"mri": SimpleNamespace()}, task=TASK))


def test_a_task_that_the_run_does_not_have_is_refused():
    site = SimpleNamespace(name="north", config=CONFIG)
    with pytest.raises(UpdateError, match="does not have"):
        local_round.train(site, Instruction("r", 1, SimpleNamespace(), task="receptor-status"))


def test_a_split_that_the_table_names_holds_and_the_others_are_drawn_as_without_it():
    def splits(given):
        rows = [SimpleNamespace(patient_id=f"p{number}", split=given.get(number)) for number in range(20)]
        site = Site(Path("north"), "north", CONFIG)
        site.cohort = Cohort(None, tuple(SimpleNamespace(row=row) for row in rows), ())
        return site.splits

    named = {0: "test", 1: "validation", 2: "train", 3: "test"}
    found = splits(named)
    assert {number: found[f"p{number}"] for number in named} == named
    assert len(found) == 20
    # 16 are left for the shares of .17: 3 each.
    drawn = [found[f"p{number}"] for number in range(4, 20)]
    assert (drawn.count("test"), drawn.count("validation")) == (3, 3)
    assert splits({}) != splits(dict.fromkeys(range(20), "train")) == {f"p{n}": "train" for n in range(20)}


@pytest.mark.parametrize(("limit", "expected"), [(0.2, True), (0.25, False), (1.0, False)])
def test_a_site_says_when_more_is_left_out_than_its_policy_allows(limit, expected):
    site = Site(Path("north"), "north", CONFIG, policy=Policy(max_excluded_share=limit))
    early = (Exclusion(5, "no_mask"),)
    site.cohort = Cohort(None, (object(),) * 7, early)
    site.excluded = {Exclusion(3, "empty_mask")}
    assert site.over_policy() is expected  # 2 of 8
    assert site.exclusion_counts() == {"no_mask": 1, "empty_mask": 1}


def test_what_fails_at_a_site_is_in_its_own_log_and_nowhere_else(monkeypatch, tmp_path, caplog, capfd):
    monkeypatch.setenv("FEDBREAST_CACHE", str(tmp_path))
    with own_log("north") as log:
        try:
            raise ValueError("JANE DOE")
        except ValueError:
            log.exception("train of round 3 failed")
    text = (tmp_path / "logs" / "north.jsonl").read_text()
    assert "train of round 3 failed" in text
    assert "JANE" not in text + caplog.text + "".join(capfd.readouterr())


def test_a_librarys_error_that_quotes_a_patient_reaches_no_log_and_no_answer(monkeypatch, tmp_path):
    monkeypatch.setenv("FEDBREAST_CACHE", str(tmp_path))

    def work(*_):
        int("JANE DOE")

    monkeypatch.setattr(client.app, "_held_sites", work)
    monkeypatch.setattr(client.app, "read_instruction", lambda _: Instruction("r", 3, site="north"))
    monkeypatch.setattr(client.app, "write_reply", lambda reply: RecordDict({"e": ConfigRecord({"e": reply.error})}))
    metadata = Metadata(0, "1", 0, 1, "", "", 0.0, 60.0, "train")
    answer = client.app._answering("train")(Message(content=RecordDict(), metadata=metadata), None)
    assert answer.content["e"] == {"e": "ValueError"}
    text = (tmp_path / "logs" / "north.jsonl").read_text()
    entry = json.loads(text)
    assert entry["exception"] == "ValueError"
    assert entry["message"] == "train of round 3 failed"
    assert [frame.partition(":")[0] for frame in entry["frames"]] == ["client/app.py", "tests/shared/test_site.py"]
    assert entry["frames"][1].endswith(" in work")
    assert "JANE" not in text


def test_a_servers_word_for_a_site_names_no_file(monkeypatch, tmp_path):
    monkeypatch.setenv("FEDBREAST_CACHE", str(tmp_path / "cache"))
    with own_log("../../elsewhere") as log:
        log.info("hello")
    assert [path.name for path in tmp_path.rglob("*.jsonl")] == ["node.jsonl"]
