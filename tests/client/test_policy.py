"""The hospital's policy: each rule at its border."""

import pytest

from client.policy import check_policy
from shared.config.run_config import parse_config
from shared.errors import ConfigError

LESION, SUBTYPE = "lesion-segmentation", "subtype-ensemble"


def config(**sections):
    return parse_config({"name": "t", "data": {"root": "d", "sites": ["a", "b"]}, **sections}, "t")


def test_a_simulated_node_has_no_policy():
    check_policy({}, config(tasks=[LESION, SUBTYPE], federation={"rounds": 5000}))


@pytest.mark.parametrize(
    ("node", "run", "words"),
    [
        ({"tasks": LESION}, {"tasks": [LESION, SUBTYPE]}, f"does not allow {SUBTYPE}, only {LESION}"),
        ({"max-rounds": 9}, {"federation": {"rounds": 10}}, "the run has 10 rounds, this hospital's policy allows 9"),
        ({"differential-privacy": True}, {}, "only in runs that train with differential privacy"),
        (
            {"data-dir": "/data"},
            {"tasks": [SUBTYPE], "subtype_ensemble": {"pretrained": "/etc/passwd"}},
            "names a file, and a hospital opens none",
        ),
    ],
)
def test_what_the_policy_forbids_is_refused(node, run, words):
    with pytest.raises(ConfigError, match=words):
        check_policy(node, config(**run))


@pytest.mark.parametrize(
    ("node", "run"),
    [
        ({"tasks": ""}, {"tasks": [LESION, SUBTYPE]}),
        ({"tasks": f"{LESION},{SUBTYPE}"}, {"tasks": [SUBTYPE]}),
        ({"max-rounds": 10}, {"federation": {"rounds": 10}}),
        ({"max-rounds": 0}, {"federation": {"rounds": 900}}),
        ({"data-dir": "/data"}, {"tasks": [SUBTYPE], "subtype_ensemble": {"pretrained": "none"}}),
        ({}, {"tasks": [SUBTYPE], "subtype_ensemble": {"pretrained": "/a/file"}}),
    ],
)
def test_what_it_allows_passes(node, run):
    check_policy(node, config(**run))
