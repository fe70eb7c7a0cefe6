"""Which centres' data are phantoms: by what they tell, and by their folders."""

import pytest

from server.run_folder.phantoms import folders_of_phantoms, of_phantoms
from shared.config.run_config import parse_config

SITE = '[site]\nname = "{name}"\npseudonym_key = "00112233445566778899aabbccddeeff"\n{kind}'


def config(**data):
    return parse_config({"name": "t", "data": {"root": "d", "sites": ["a", "b"], "external": "x", **data}}, "t")


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"a": True, "b": True, "x": True}, (True, ())),
        ({"a": False, "b": False, "x": False}, (False, ())),
        ({"a": True, "b": False, "x": True}, (True, ("a", "x"))),
        ({"b": False, "x": True}, (True, ("x",))),
    ],
)
@pytest.mark.parametrize("made", [{}, {"phantom": {}}])
def test_what_sites_tell_counts_and_not_what_the_configuration_makes(told, expected, made):
    assert of_phantoms(config(**made), told) == expected


def test_before_any_site_told_the_configuration_is_believed():
    assert of_phantoms(config(), {}) == (False, ())
    assert of_phantoms(config(phantom={}), {}) == (True, ())


def test_a_folder_is_a_phantom_by_its_settings_or_by_what_the_generator_left(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDBREAST_ROOT", str(tmp_path))
    for name, kind in (("a", 'kind = "phantom"\n'), ("b", ""), ("x", "")):
        folder = tmp_path / "d" / name
        folder.mkdir(parents=True)
        (folder / "site.toml").write_text(SITE.format(name=name, kind=kind))
        (folder / "cases.csv").write_text("patient_id,side\nP1,left\n")
    (tmp_path / "d" / "x" / ".phantom").mkdir()
    assert folders_of_phantoms(config()) == {"a": True, "b": False, "x": True}
