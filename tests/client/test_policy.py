"""The hospital behind a node: what it refuses, from whom, and where nobody needs to be guarded."""

import pytest
import tomli_w

from client.guarded_site import GuardedSite
from client.node.approved_configurations import approve_configuration
from client.node.site_kit import SiteKit
from client.policy import hospital_of
from shared.config.run_config import parse_config
from shared.errors import ConfigError
from shared.site import Site

LESION, SUBTYPE = "lesion-segmentation", "subtype-ensemble"


def config(**sections):
    return parse_config({"name": "t", "data": {"root": "d", "sites": ["a", "b"]}, **sections}, "t")


@pytest.fixture
def node(tmp_path):
    """The node configuration of a hospital, by its policy and the kind of its data."""

    def made(kind="hospital", **policy):
        data = tmp_path / "data"
        data.mkdir(exist_ok=True)
        (data / "site.toml").write_text(
            tomli_w.dumps({"site": {"name": "a", "pseudonym_key": "ab" * 16, "kind": kind}})
        )
        (data / "cases.csv").write_text("patient_id\n")
        kit = {
            "server": {"address": "localhost", "port": 1},
            "site": {"name": "a", "data": str(data)},
            "policy": policy,
        }
        (tmp_path / "node.toml").write_text(tomli_w.dumps(kit))
        return {"data-dir": str(data), "site": "a", "kit": str(tmp_path)}

    return made


def test_a_simulated_node_has_no_hospital():
    assert hospital_of({"partition-id": 0, "num-partitions": 2}) is None


@pytest.mark.parametrize(
    ("policy", "run", "words"),
    [
        ({"max_rounds": 9}, {"federation": {"rounds": 10}}, "the run has 10 rounds, this hospital's policy allows 9"),
        ({}, {"tasks": [SUBTYPE], "subtype_ensemble": {"pretrained": "/etc/passwd"}}, "names a file, and a hospital"),
    ],
)
def test_what_the_policy_forbids_is_refused_though_it_is_approved(node, tmp_path, policy, run, words):
    hospital = hospital_of(node(**policy))
    approve_configuration(SiteKit(tmp_path), config(**run))
    with pytest.raises(ConfigError, match=words):
        hospital.check(config(**run))


@pytest.mark.parametrize("named", ["/data/DOE^JANE/IM1", "weights.safetensors"])
def test_a_file_that_the_server_names_is_not_repeated(node, named):
    with pytest.raises(ConfigError, match="names a file, and a hospital opens none") as caught:
        hospital_of(node()).check(config(tasks=[SUBTYPE], subtype_ensemble={"pretrained": named}))
    assert named not in str(caught.value)


def test_a_configuration_is_refused_until_it_is_approved_and_so_is_each_other_one(node, tmp_path):
    hospital = hospital_of(node())
    with pytest.raises(ConfigError, match=r"has not approved the run's configuration [0-9a-f]{12}: `fedbreast approve"):
        hospital.check(config())
    approve_configuration(SiteKit(tmp_path), config())
    hospital.check(config())
    hospital.check(config(seed=7))  # which draws are made is not what is asked
    for other in (
        {"splits": {"validation": 0.5}},
        {"training": {"steps_per_round": 21}},
        {"federation": {"retries": 2}},
    ):
        with pytest.raises(ConfigError, match="has not approved"):
            hospital.check(config(**other))


def test_a_change_of_the_kit_takes_effect_at_the_next_question(node):
    assert hospital_of(node(max_rounds=9)).policy.max_rounds == 9
    assert hospital_of(node(max_rounds=8)).policy.max_rounds == 8


def test_patients_are_guarded_and_phantoms_are_not(node, tmp_path):
    def site(kind):
        return hospital_of(node(kind, max_rounds=9)).site(tmp_path / "data", "a", config(), "run")

    patients, phantoms = site("hospital"), site("phantom")
    assert isinstance(patients, GuardedSite)
    assert type(phantoms) is Site
    assert (patients.policy.least_patients, phantoms.policy.least_patients) == (5, 1)
    assert phantoms.policy.max_rounds == 9
    assert (tmp_path / "state" / "ledger.json").is_file()  # of the patients' question alone


def test_a_node_without_a_kit_is_as_safe_as_a_new_kit(node, tmp_path, monkeypatch):
    monkeypatch.setenv("FEDBREAST_CACHE", str(tmp_path / "cache"))
    own = {name: value for name, value in node(least_patients=1).items() if name != "kit"}
    assert hospital_of(own).policy.least_patients == 5
    assert hospital_of(own).ledger.path.parent == tmp_path / "cache" / "ledgers"
    (tmp_path / "other").mkdir()
    for name in ("site.toml", "cases.csv"):
        (tmp_path / "other" / name).write_bytes((tmp_path / "data" / name).read_bytes())
    other = own | {"data-dir": str(tmp_path / "other")}
    assert hospital_of(other).ledger.path != hospital_of(own).ledger.path  # no two hospitals share one
