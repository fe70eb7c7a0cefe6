"""A hospital's list of approved configurations: what stands in it, and what is done about a changed file."""

import json

import pytest
import tomli_w

from client.node.approved_configurations import (
    FOLDER,
    approve_configuration,
    approved_configurations,
    is_approved,
    withdraw_configuration,
)
from client.node.site_kit import SiteKit
from shared.config.run_config import load_config, parse_config
from shared.errors import ConfigError


def config(**sections):
    return parse_config({"name": "t", "data": {"root": "d", "sites": ["a", "b"]}, **sections}, "t")


@pytest.fixture
def kit(tmp_path):
    node = {"server": {"address": "localhost", "port": 1}, "site": {"name": "a"}}
    (tmp_path / "node.toml").write_text(tomli_w.dumps(node))
    return SiteKit(tmp_path)


def test_what_is_approved_is_until_it_is_withdrawn(kit):
    first, second = approve_configuration(kit, config()), approve_configuration(kit, config(name="second"))
    assert {entry.name for entry in approved_configurations(kit)} == {"t", "second"}
    assert first.sha256 != second.sha256
    withdraw_configuration(kit, first)
    assert not is_approved(kit, config())
    assert is_approved(kit, config(name="second"))


def test_the_hash_is_of_what_is_asked_in_whatever_file_it_stands(kit, tmp_path):
    approve_configuration(kit, config(training={"steps_per_round": 20}))
    path = tmp_path / "sent.toml"
    path.write_text(tomli_w.dumps(config().model_dump(mode="json", exclude_none=True)))
    assert is_approved(kit, load_config(path))
    elsewhere = {"data": {"root": "/mnt", "sites": ["a", "b"]}, "seed": 9, "tracking": {"mlflow": True}}
    assert is_approved(kit, config(**elsewhere))
    assert not is_approved(kit, config(data={"root": "d", "sites": ["b", "a"]}))


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_text("{"),
        lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | {"more": 1})),
        lambda path: path.write_text(path.read_text().replace('"steps_per_round": 20', '"steps_per_round": 21')),
        lambda path: path.rename(path.with_name("ab" * 32 + ".json")),
    ],
)
def test_of_a_changed_list_nothing_is_approved(kit, change):
    entry = approve_configuration(kit, config())
    path = kit.folder / FOLDER / f"{entry.sha256}.json"
    before = path.read_bytes()
    change(path)
    assert not path.exists() or path.read_bytes() != before
    with pytest.raises(ConfigError, match="remove it and approve the configuration again"):
        is_approved(kit, config())
