"""One consortium for tests that only look, and one a test for those that change it."""

import shutil
from datetime import UTC, datetime

import pytest

from server.deployment.provisioning.members import provision

TOML = """name = "toy"
[server]
address = "fed.example.org"
[[sites]]
name = "centre-a"
[[sites]]
name = "centre-b"
"""


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A consortium of two sites; its file lies beside it. Look, do not touch."""
    folder = tmp_path_factory.mktemp("consortium")
    (folder / "toy.toml").write_text(TOML)
    provision(folder / "toy.toml", folder / "out", datetime.now(UTC))
    return folder / "out"


@pytest.fixture
def own(made, tmp_path):
    """The same, to change."""
    shutil.copytree(made.parent, tmp_path / "own")
    return tmp_path / "own" / "out"
