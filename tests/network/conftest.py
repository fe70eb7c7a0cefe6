"""One consortium for all tests: starting it costs most of a test's time."""

from functools import partial

import pytest

from tests.network.consortium import EXTERNAL, SITES
from tests.network.standing import replay, stand


@pytest.fixture(scope="session")
def standing(tmp_path_factory, phantom_root, toy_cache):
    """The consortium of two sites."""
    with stand(tmp_path_factory.mktemp("consortium"), phantom_root, toy_cache) as found:
        yield found


@pytest.fixture
def consortium(standing, toy_config):
    """Give the consortium a configuration, with every process there and every line whole."""

    def make(*, external=False, **sections):
        federation = {"rounds": 2, "round_timeout_s": 120, "join_timeout_s": 60, "min_sites": 1}
        sections["federation"] = federation | sections.get("federation", {})
        config = toy_config(**sections)
        config["data"] = {"root": config["data"]["root"], "sites": list(SITES)}
        config["data"] |= {"external": EXTERNAL} if external else {}
        standing.ready(config)
        return standing

    return make


@pytest.fixture
def reference(standing, tmp_path):
    """Hashes of the current configuration's models by `replay`, with these absences."""
    return partial(replay, standing, tmp_path)
