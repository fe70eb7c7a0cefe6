"""CONSORTIUM.toml: what cannot be meant is refused with its path, what production forbids with the remedy."""

import re
from pathlib import Path

import pytest

from server.deployment.provisioning.consortium_file import load_consortium
from shared.errors import ConfigError

SHIPPED = Path(__file__).resolve().parents[4] / "configs" / "consortium.toml"
GOOD = {
    "name": '"toy"',
    "profile": '"production"',
    "server.address": '"fed.example.org"',
    "privacy.differential_privacy": "true",
    "sites": '[{name = "centre-a"}, {name = "centre-b"}]',
}


@pytest.fixture
def load(tmp_path):
    """Load the good file, with some keys changed or added (as TOML) or taken out (None)."""

    def read(**changes):
        lines = GOOD | {key.replace("__", "."): value for key, value in changes.items()}
        path = tmp_path / "toy.toml"
        path.write_text("".join(f"{key} = {value}\n" for key, value in lines.items() if value is not None))
        return load_consortium(path)

    return read


def test_the_shipped_file_is_valid_for_loopback_and_says_how_to_use_it():
    consortium = load_consortium(SHIPPED)
    assert consortium.site_names == ("centre-a", "centre-b", "centre-c", "centre-d")
    assert (consortium.server.address, consortium.profile) == ("127.0.0.1", "trial")
    header = SHIPPED.read_text().split("\nname")[0]
    assert "make consortium" in header
    assert "fedbreast provision configs/consortium.toml" in header


def test_a_short_file_has_the_contracts_defaults(load):
    consortium = load()
    assert (consortium.server.port, consortium.server.status_port, consortium.server.superlink_port) == (
        9443,
        9444,
        9445,
    )
    validity = consortium.certificates
    assert (validity.valid_days, validity.authority_days, validity.warn_days) == (365, 3650, 30)


@pytest.mark.parametrize(
    ("change", "key", "remedy"),
    [
        ({"insecure": "true"}, "'insecure'", "take it out"),
        ({"privacy__differential_privacy": "false"}, "'privacy.differential_privacy'", "set it true"),
        ({"privacy__differential_privacy": None}, "'privacy.differential_privacy'", "set it true"),
        ({"sites": '[{name = "centre-a"}]'}, "'sites'", "add one"),
        ({"certificates__valid_days": "399"}, "'certificates.valid_days'", "398 or fewer"),
    ],
)
def test_scenario_67_production_refuses_with_path_and_remedy_what_a_trial_may_do(load, change, key, remedy):
    with pytest.raises(ConfigError, match=f"profile 'production' refuses.*{re.escape(key)}.*{remedy}"):
        load(**change)
    load(**change, profile='"trial"')


def test_scenario_67_all_faults_are_told_at_once(load):
    with pytest.raises(ConfigError, match=r"'insecure'.*'privacy\.differential_privacy'"):
        load(insecure="true", privacy__differential_privacy="false")


def test_a_production_certificate_of_398_days_is_accepted(load):
    assert load(certificates__valid_days="398").certificates.valid_days == 398


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"server__prot": "1"}, r"unknown key 'server\.prot'; did you mean 'server\.port'"),
        ({"certificates__valid_day": "1"}, r"'certificates\.valid_day'; did you mean 'certificates\.valid_days'"),
        ({"profil": '"trial"'}, "unknown key 'profil'; did you mean 'profile'"),
        ({"sites": '[{name = "a"}, {nam = "b"}]'}, r"unknown key 'sites\.1\.nam'; did you mean 'sites\.1\.name'"),
        ({"server__port": '"9443"'}, r"'server\.port'.*given: '9443'"),
        ({"server__port": "true"}, r"'server\.port'.*given: True"),
        ({"server__port": "70000"}, r"'server\.port'.*given: 70000"),
        ({"insecure": '"no"'}, "'insecure'.*given: 'no'"),
        ({"profile": '"prodution"'}, "'profile'.*'production'.*given: 'prodution'"),
        ({"server__address": None}, "'server' is missing"),
        ({"server__status_port": "9443"}, r"'server'.*must differ"),
        ({"server__address": '"https://fed.example.org"'}, r"'server\.address'.*leave out https://"),
        ({"server__address": '"fed.example.org:9443"'}, r"'server\.address'.*port"),
        ({"server__address": '"300.1.1.1"'}, r"'server\.address'.*no IPv4 address"),
        ({"server__address": '"0.0.0.0"'}, r"'server\.address'.*listens"),
        ({"sites": '[{name = "Centre A"}, {name = "b"}]'}, r"'sites\.0\.name'"),
        ({"sites": '[{name = "../x"}, {name = "b"}]'}, r"'sites\.0\.name'"),
        ({"sites": '[{name = "a"}, {name = "a"}]'}, "sites names a twice"),
        ({"sites": '[{name = "a"}, {name = "server"}]'}, "cannot be called 'server'"),
        ({"certificates__authority_days": "10"}, "'certificates'.*outlives"),
        ({"name": '"a\\nb"'}, "'name'"),
        ({"sites": '[{name = "a", most_cases = 0}, {name = "b"}]'}, r"'sites\.0\.most_cases'.*given: 0"),
        ({"sites": '[{name = "a", most_cases = "9"}, {name = "b"}]'}, r"'sites\.0\.most_cases'.*given: '9'"),
    ],
)
def test_scenario_66_what_cannot_be_meant_is_refused_with_its_path(load, change, message):
    with pytest.raises(ConfigError, match=rf"toy\.toml: .*{message}"):
        load(**change)


def test_the_cases_that_were_agreed_stand_beside_a_hospitals_name(load):
    assert load(sites='[{name = "a", most_cases = 80}, {name = "b"}]').most_cases == {"a": 80}


def test_an_absent_file_lists_those_beside_it(tmp_path):
    (tmp_path / "toy.toml").write_text("")
    with pytest.raises(ConfigError, match=r"consortium's file.*found there: toy\.toml"):
        load_consortium(tmp_path / "tyo.toml")
