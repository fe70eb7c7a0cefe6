"""Where the checkout and its cache lie, and what a run changes of its configuration."""

from pathlib import Path

import pytest
import tomli_w

from shared.errors import ConfigError
from shared.runtime import project
from shared.runtime.project import cache_root, load_run_config, project_root

TOY = {"name": "toy", "seed": 5, "data": {"root": "d", "sites": ["a", "b"], "external": "x"}}


class Installed:
    """What pip has noted of an editable install."""

    def __init__(self, url):
        self.url = url

    def distribution(self, _name):
        return self

    def read_text(self, _name):
        return f'{{"url": "{self.url}"}}'


def test_the_environment_comes_before_the_install_and_that_before_the_working_directory(tmp_path, monkeypatch):
    here, checkout = tmp_path / "here", tmp_path / "my checkout"
    here.mkdir()
    checkout.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.delenv("FEDBREAST_ROOT", raising=False)
    monkeypatch.delenv("FEDBREAST_CACHE", raising=False)
    installed = Installed(checkout.as_uri())
    monkeypatch.setattr(project.metadata, "distribution", installed.distribution)
    assert project_root() == checkout
    assert cache_root() == checkout / ".cache"
    installed.url = "https://example.org/fedbreast.whl"  # no editable install
    assert project_root() == here
    monkeypatch.setenv("FEDBREAST_ROOT", "/elsewhere")
    monkeypatch.setenv("FEDBREAST_CACHE", "/fast")
    assert (project_root(), cache_root()) == (Path("/elsewhere"), Path("/fast"))


@pytest.mark.parametrize(
    ("run", "seed", "rounds", "external"),
    [
        ({}, 5, 40, "x"),
        ({"seed": -1, "rounds": -1, "held-out": ""}, 5, 40, "x"),
        ({"seed": 0, "rounds": 3}, 0, 3, "x"),
        ({"held-out": "a"}, 5, 40, "a"),
    ],
)
def test_a_run_may_set_seed_rounds_and_the_centre_left_out(tmp_path, monkeypatch, run, seed, rounds, external):
    monkeypatch.setenv("FEDBREAST_ROOT", str(tmp_path))
    (tmp_path / "toy.toml").write_text(tomli_w.dumps(TOY | {"federation": {"rounds": 40}}))
    config = load_run_config({"config": "toy.toml", **run})
    assert (config.seed, config.federation.rounds, config.data.external) == (seed, rounds, external)
    assert (external in config.data.sites) is False


def test_an_absent_configuration_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDBREAST_ROOT", str(tmp_path))
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        load_run_config({"config": "nowhere.toml"})
