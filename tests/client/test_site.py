"""A site's side: which folder it opens, how it splits, what it answers."""

from types import SimpleNamespace

import pytest

from client import local_round
from client.site import Site, locate
from shared.config import parse_config
from shared.errors import ConfigError, UpdateError
from shared.messages import Instruction

CONFIG = parse_config({"name": "t", "data": {"root": "data", "sites": ["north", "south"]}}, "t")


def test_a_hospital_names_its_own_folder_and_the_server_cannot(tmp_path):
    node = {"data-dir": str(tmp_path / "north"), "partition-id": 1}
    assert locate(node, CONFIG) == ("north", tmp_path / "north")
    assert locate({"data-dir": "/mnt/pacs-export", "site": "south"}, CONFIG)[0] == "south"


def test_a_hospital_that_is_not_in_the_consortium_is_refused():
    with pytest.raises(ConfigError, match=r"'east' is not in data\.sites \(north, south\)"):
        locate({"data-dir": "/mnt/east"}, CONFIG)


def test_a_simulated_node_takes_its_partition(monkeypatch, tmp_path):
    monkeypatch.setenv("FEDBREAST_ROOT", str(tmp_path))
    assert locate({"partition-id": 1, "num-partitions": 2}, CONFIG) == ("south", tmp_path / "data" / "south")


def test_more_nodes_than_sites_is_explained():
    with pytest.raises(ConfigError, match="set num-supernodes"):
        locate({"partition-id": 2}, CONFIG)


def test_a_node_without_data_is_explained():
    with pytest.raises(ConfigError, match="data-dir"):
        locate({}, CONFIG)


def test_a_server_may_not_ask_for_the_training_cases_to_be_judged():
    with pytest.raises(UpdateError, match="not one a server may ask"):
        local_round.judge(SimpleNamespace(config=CONFIG), Instruction("r", 1, split="train"))


def test_an_instruction_without_a_plan_is_refused():
    with pytest.raises(UpdateError, match="no preprocessing plan"):
        local_round.train(Site("north", SimpleNamespace(cases=()), {}, CONFIG), Instruction("r", 1))


def test_another_model_than_the_sites_own_code_builds_is_refused():
    site = Site("north", SimpleNamespace(cases=()), {}, CONFIG)
    site._prepared["p"] = {"train": [], "validation": [], "test": []}
    plan = SimpleNamespace(hash=lambda: "p")
    with pytest.raises(UpdateError, match="other names, shapes or types"):
        local_round.train(site, Instruction("r", 1, plan, manifest="another"))
