"""node.toml: what cannot be meant is refused at start, with its place."""

import re

import pytest

from client.node.site_kit import SiteKit
from shared.errors import ConfigError

GOOD = {
    "server": {"address": '"fed.example.org"', "port": "9443"},
    "site": {"name": '"centre-a"'},
    "policy": {"max_rounds": "10"},
}


def kit(folder, **changes):
    sections = {name: {**GOOD.get(name, {}), **changes.get(name, {})} for name in {**GOOD, **changes}}
    lines = [
        line
        for name, values in sections.items()
        for line in (f"[{name}]", *(f"{key} = {value}" for key, value in values.items()))
    ]
    (folder / "node.toml").write_text("\n".join(lines) + "\n")
    return SiteKit(folder)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"server": {"prot": "1"}}, "server.prot"),
        ({"site": {"dta": '"data"'}}, "site.dta"),
        ({"policy": {"max_round": "5"}}, "policy.max_round"),
        ({"polcy": {"max_rounds": "5"}}, "polcy"),
        ({"server": {"port": '"ten"'}}, "server.port"),
        ({"server": {"port": "70000"}}, "server.port"),
        ({"policy": {"max_rounds": "0"}}, "policy.max_rounds"),
        ({"policy": {"tasks": '["lesions"]'}}, "policy.tasks"),
        ({"site": {"name": '"Centre A"'}}, "site.name"),
    ],
)
def test_scenario_66_an_unknown_key_a_typo_or_a_wrong_type_in_a_sites_kit_is_refused_with_its_path(
    tmp_path, change, path
):
    assert kit(tmp_path).node.policy.max_rounds == 10
    with pytest.raises(ConfigError, match=rf"node\.toml: .*'{re.escape(path)}'"):
        kit(tmp_path, **change)
