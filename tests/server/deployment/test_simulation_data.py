"""Data of a simulation: phantoms where they are asked for, and an error that names the remedy where there are none."""

import pytest

from server.deployment.simulation import ensure_data
from shared.config.run_config import parse_config
from shared.errors import ConfigError, SiteError
from shared.phantom import generate


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDBREAST_ROOT", str(tmp_path))
    return tmp_path


def config(**data):
    return parse_config({"name": "t", "data": {"root": "data/x", "sites": ["centre-a"], **data}}, "t")


def test_without_data_and_without_a_phantom_the_remedy_is_named(root):
    with pytest.raises(SiteError, match=r"data\.root 'data/x' does not exist .*add \[data\.phantom\]"):
        ensure_data(config(), lambda *_: None)


def test_data_that_are_there_are_left_alone(root, monkeypatch):
    monkeypatch.setattr(generate, "generate_federation", lambda *_, **__: pytest.fail("nothing is to be made"))
    (root / "data" / "x" / "centre-a").mkdir(parents=True)
    ensure_data(config(), lambda *_: None)
    assert [path.name for path in (root / "data" / "x").rglob("*")] == ["centre-a"]


@pytest.mark.parametrize("phantom", [None, {}])
def test_a_training_site_that_is_no_folder_is_refused_with_those_there_are(root, monkeypatch, phantom):
    monkeypatch.setattr(generate, "generate_federation", lambda *_, **__: pytest.fail("nothing is to be made"))
    (root / "data" / "x" / "centre-a").mkdir(parents=True)
    data = {"sites": ["centre-a", "north"]} | ({} if phantom is None else {"phantom": phantom, "root": "data/y"})
    with pytest.raises(ConfigError, match=r"data\.sites names north, and data\.root has no such folder \(centre-a"):
        ensure_data(config(**data), lambda *_: None)


def test_a_phantom_is_made_by_its_section_and_says_how_far_it_is(root, monkeypatch):
    asked, told = [], []

    def made(folder, settings, *, on_progress):
        asked.append((folder, settings))
        on_progress(3, 8)

    monkeypatch.setattr(generate, "generate_federation", made)
    ensure_data(config(phantom={"cases_per_site": 5, "seed": 4, "shift": 0.2}), lambda *item: told.append(item))
    ((folder, settings),) = asked
    assert folder == root / "data" / "x"
    assert (settings.cases_per_site, settings.seed, settings.shift) == (5, 4, 0.2)
    assert told == [("phantom", 3, 8, "patients")]


@pytest.mark.parametrize("phantom", [None, {}])
def test_an_external_centre_that_is_no_folder_is_refused_before_anything_is_made(root, monkeypatch, phantom):
    monkeypatch.setattr(generate, "generate_federation", lambda *_, **__: pytest.fail("nothing is to be made"))
    data = {"external": "centre-z"} | ({"phantom": phantom} if phantom is not None else {})
    if phantom is None:
        (root / "data" / "x" / "centre-a").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"data\.external 'centre-z' is no folder of data\.root"):
        ensure_data(config(**data), lambda *_: None)
