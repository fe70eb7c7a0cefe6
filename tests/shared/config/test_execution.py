"""How a run or a study is carried out: what each strategy's table becomes, and what cannot be."""

import pytest
from pydantic import ValidationError

from shared.config.execution import FederationConfig, StudyConfig, TrackingConfig
from shared.errors import ConfigError


def test_a_strategys_table_is_its_settings_and_stands_in_what_is_written():
    section = FederationConfig.parse({"strategy": "fedprox", "fedprox": {"mu": 0.5}, "rounds": 3}, "run.toml")
    assert (section.rounds, section.algorithm.mu) == (3, 0.5)
    assert section.model_dump()["fedprox"] == {"mu": 0.5}
    assert FederationConfig.parse(section.model_dump(), "again").algorithm == section.algorithm


def test_a_former_key_is_read_and_beside_its_new_one_refused():
    assert FederationConfig.parse({"strategy": "fedprox", "proximal_mu": 0.5}, "run.toml").algorithm.mu == 0.5
    with pytest.raises(ConfigError, match=r"'federation\.proximal_mu' is now 'federation\.fedprox\.mu': give it once"):
        FederationConfig.parse({"proximal_mu": 0.5, "fedprox": {"mu": 0.1}}, "run.toml")


def test_an_unknown_strategy_is_refused_with_the_nearest():
    with pytest.raises(ValidationError, match="'fedporx' is no strategy; did you mean 'fedprox'"):
        FederationConfig(strategy="fedporx")


@pytest.mark.parametrize("uri", ["ftp://host", "https://", "https://me:secret@host", "https://host?token=secret"])
def test_what_is_no_address_or_holds_a_password_is_refused(uri):
    with pytest.raises(ValidationError):
        TrackingConfig(uri=uri)
    assert TrackingConfig(uri="https://host:5000").uri == "https://host:5000"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"seeds": [1, 1]}, "names one twice"),
        ({"seeds": [-1]}, "greater than or equal to 0"),
        ({"arms": ["ensemble", "pooled"]}, "add 'local'"),
    ],
)
def test_a_study_that_cannot_be_is_refused(given, message):
    with pytest.raises(ValidationError, match=message):
        StudyConfig(**given)
