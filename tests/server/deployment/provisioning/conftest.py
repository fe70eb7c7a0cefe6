"""One consortium for tests that only look, and one a test for those that change it."""

import shutil

import pytest

from tests.hospitals import make_consortium_with_hospitals

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
    """A consortium of two sites that have joined, their folders in its own; its file lies beside it. Do not touch."""
    folder = tmp_path_factory.mktemp("consortium")
    (folder / "toy.toml").write_text(TOML)
    make_consortium_with_hospitals(folder / "toy.toml", folder / "out")
    return folder / "out"


@pytest.fixture
def own(made, tmp_path):
    """The same, to change."""
    shutil.copytree(made.parent, tmp_path / "own")
    return tmp_path / "own" / "out"
