"""What a phantom's folder was made with: markers and identities, with and without benign patients."""

import json
from dataclasses import replace

import numpy as np
import pytest

from shared.errors import ConfigError
from shared.phantom import generate, marker
from shared.phantom.biology import draw_labels
from shared.phantom.centres import CENTRES
from shared.phantom.generate import generate_federation, remove_phantom
from shared.phantom.settings import PhantomSettings

MIXED = PhantomSettings(cases_per_site=1, cases_external=2, cases_benign=40, seed=5)


@pytest.fixture
def one_centre(monkeypatch):
    for room in (generate, marker):
        monkeypatch.setattr(room, "CENTRES", {"A": CENTRES["A"]})


def test_densities_of_one_centre_change_the_identity_of_its_patients_alone():
    split = PhantomSettings(densities={"centre-a": "ab"})
    identities = [marker.patient_identity(settings, key, 0) for key in "AB" for settings in (PhantomSettings(), split)]
    assert identities[0] != identities[1]
    assert identities[2] == identities[3]
    exams = [draw_labels(np.random.default_rng(n), split.population(CENTRES["A"])).density for n in range(60)]
    assert set(exams) == {"a", "b"}


def test_a_marker_from_before_benign_patients_is_known_and_written_the_same(one_centre, tmp_path):
    old = {"cases_per_site": 2, "cases_external": 2, "shift": 0.6, "separation": 0.75, "seed": 0}
    text = json.dumps({"version": 1, "settings": old, "complete": True}, indent=1)
    (tmp_path / "phantom.json").write_text(text)
    (tmp_path / "centre-a").mkdir()
    (tmp_path / "centre-a" / "cases.csv").write_text("patient_id\n")
    plain = PhantomSettings(cases_per_site=2, cases_external=2)
    assert marker.is_complete(tmp_path, plain)
    marker.write_marker(tmp_path, plain, complete=True)
    assert (tmp_path / "phantom.json").read_text() == text
    with pytest.raises(ConfigError, match="cases_benign 0 there, 3 wanted"):
        marker.is_complete(tmp_path, replace(plain, cases_benign=3))
    mixed = replace(plain, cases_benign=3)
    (tmp_path / "phantom.json").write_text(json.dumps({"version": 1, "settings": {**old, "cases_benign": 3}}))
    with pytest.raises(ConfigError, match="generator version 1 there"):  # other benign lesions than now
        marker.is_complete(tmp_path, mixed)
    marker.write_marker(tmp_path, mixed, complete=True)
    with pytest.raises(ConfigError, match="cases_benign 3 there, 0 wanted"):
        marker.is_complete(tmp_path, plain)


def test_identity_of_a_cancer_is_what_it_was_and_a_benign_patients_is_another():
    assert marker.patient_identity(MIXED, "A", 0) == "1|5|0.6|0.75|A|0"
    assert marker.patient_identity(replace(MIXED, cases_benign=0), "A", 1) == "1|5|0.6|0.75|A|1"
    assert marker.patient_identity(MIXED, "A", 1) != "1|5|0.6|0.75|A|1"


@pytest.mark.parametrize("name", ["cases.csv", "site.toml", "scan.dcm", "images/"])
def test_a_folder_that_holds_anything_else_is_refused_and_left_as_it_was(tmp_path, name):
    if name.endswith("/"):
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_text("a hospital's")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError, match="holds files that are no phantom: choose another folder"):
        generate_federation(tmp_path, PhantomSettings(1, 1), workers=1)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_empty_folder_and_one_with_the_lock_of_a_killed_call_are_taken(tmp_path):
    assert not marker.is_complete(tmp_path, PhantomSettings(1, 1))
    (tmp_path / marker.LOCK).touch()
    assert not marker.is_complete(tmp_path, PhantomSettings(1, 1))


def test_removing_a_phantom_leaves_what_else_lies_there(tmp_path):
    for site in ("centre-a", "centre-b"):
        (tmp_path / site / ".phantom").mkdir(parents=True)
    for kept in ("centre-c", "st-elsewhere"):
        (tmp_path / kept).mkdir()
        (tmp_path / kept / "cases.csv").write_text("patient_id")
    (tmp_path / marker.MARKER).write_text("{}")
    remove_phantom(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["centre-c", "st-elsewhere"]
