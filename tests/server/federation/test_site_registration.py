"""Which node holds which site's data: a node is believed as far as its key goes, also when it leaves in between."""

from types import SimpleNamespace

import pytest

from server.federation.site_registration import SiteRegistration
from shared.config.run_config import parse_config
from shared.messages.instruction_reply import Reply
from shared.messages.records import write_reply
from shared.messages.versions import own_versions

CONFIG = parse_config({"name": "t", "data": {"root": "data", "sites": ["north", "south"], "external": "east"}}, "t")

pytestmark = pytest.mark.usefixtures("flower_task")


class Nodes:
    """A grid of one node, which claims to hold a site's data; `leaves` as soon as it has answered."""

    def __init__(self, owner, claims, leaves=False):
        self.owner, self.claims, self.leaves = owner, claims, leaves
        self.online = True

    def get_nodes(self):
        return [SimpleNamespace(node_id=7, name=self.owner)] if self.online else []

    def push_messages(self, messages):
        return [f"question-{number}" for number, _ in enumerate(messages)]

    def pull_messages(self, identifiers):
        self.online = not self.leaves
        reply = Reply("", "run", 0, sites=(CONFIG.centres.index(self.claims),), versions=own_versions())
        metadata = SimpleNamespace(reply_to_message_id=identifiers[0])
        return [SimpleNamespace(metadata=metadata, content=write_reply(reply), has_error=lambda: False)]


def find(grid):
    result = SiteRegistration(grid, CONFIG, "run").look(0.2)
    return result.nodes, result.refused


@pytest.mark.parametrize("leaves", [False, True])
def test_scenario_52_a_node_that_claims_another_site_is_not_believed_whether_it_stays_or_leaves(leaves):
    assert find(Nodes("north", "north", leaves)) == ({"north": 7}, {})
    assert find(Nodes("north", "south", leaves)) == ({}, {})
    assert find(Nodes("north", "east", leaves)) == ({}, {})


def test_without_keys_a_node_is_believed():
    assert find(Nodes("", "south")) == ({"south": 7}, {})
