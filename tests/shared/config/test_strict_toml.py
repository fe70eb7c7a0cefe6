"""Strict TOML: every fault with its path, and what to write instead."""

import codecs
import time

import pytest
from pydantic import Field

from shared.config.sections import Section
from shared.config.strict_toml import parse_toml, read_toml, validated
from shared.errors import ConfigError


class Inner(Section):
    rounds: int = Field(ge=1)
    names: tuple[str, ...] = ()


class Outer(Section):
    name: str
    inner: Inner | None = None
    several: tuple[Inner, ...] = Field(default=(), min_length=1)


GOOD = {"name": "x", "inner": {"rounds": 2}}


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({"nam": "x"}, ["unknown key 'nam'; did you mean 'name'?", "'name' is missing"]),
        ({**GOOD, "inner": {"round": 1}}, ["unknown key 'inner.round'; did you mean 'inner.rounds'?"]),
        ({**GOOD, "zzz": 1}, ["unknown key 'zzz'; valid keys here: inner, name, several"]),
        ({**GOOD, "inner": {"rounds": 0}}, ["'inner.rounds'", "greater than or equal to 1", "(given: 0)"]),
        ({**GOOD, "several": [{"rounds": 1}, {"rounds": 1, "name": "y"}]}, ["'several.1.name'", "'several.1.names'"]),
    ],
)
def test_each_fault_has_its_path_and_the_remedy(raw, words):
    with pytest.raises(ConfigError) as caught:
        validated(Outer, raw, "run.toml")
    assert str(caught.value).startswith("run.toml: ")
    for word in words:
        assert word in str(caught.value)


def test_a_section_by_itself_is_named_in_its_paths():
    assert validated(Inner, {"rounds": 3}, "run.toml", "federation").rounds == 3
    with pytest.raises(ConfigError, match=r"unknown key 'federation\.round'; did you mean 'federation\.rounds'"):
        validated(Inner, {"rounds": 3, "round": 1}, "run.toml", "federation")


def test_a_faulty_item_is_not_reported_as_a_list_that_is_too_short_as_well():
    with pytest.raises(ConfigError) as caught:
        validated(Outer, {"name": "x", "several": [{"rounds": 0}]}, "run.toml")
    assert str(caught.value).count("'several") == 1


def test_a_file_that_is_absent_not_utf8_or_no_toml_is_refused(tmp_path):
    (tmp_path / "good.toml").write_text("a = 1\n")
    assert read_toml(tmp_path / "good.toml", "file") == {"a": 1}
    with pytest.raises(ConfigError, match=r"cannot read the kit .*bad\.toml: .*; found there: good\.toml"):
        read_toml(tmp_path / "bad.toml", "kit")
    (tmp_path / "bad.toml").write_bytes(b'a = "\xff"')
    with pytest.raises(ConfigError, match=r"bad\.toml is not valid TOML: it is not UTF-8"):
        read_toml(tmp_path / "bad.toml", "kit")
    (tmp_path / "bad.toml").write_text("a = [")
    with pytest.raises(ConfigError, match=r"bad\.toml is not valid TOML"):
        read_toml(tmp_path / "bad.toml", "kit")


@pytest.mark.parametrize(
    "text",
    [
        "a=" + "[" * 100_000 + "]" * 100_000,
        "a=" + "{b=" * 5000 + "1" + "}" * 5000,
        "[" + ".".join("a" * 50_000) + "]",
        ".".join("a" * 1002) + "=1",
        "a='" + "x" * (1 << 18) + "'",
    ],
    ids=["lists", "tables", "a header", "a key", "long"],
)
def test_what_is_nested_too_deeply_or_too_long_is_refused_in_one_line_and_at_once(tmp_path, text):
    (tmp_path / "a.toml").write_text(text)
    started = time.monotonic()
    with pytest.raises(ConfigError, match=r"^a\.toml is not valid TOML: it (is nested|has more)") as caught:
        read_toml(tmp_path / "a.toml", "file")
    assert time.monotonic() - started < 5
    assert len(str(caught.value)) < 100


def test_what_is_nested_as_configurations_are_is_read():
    assert parse_toml("[a.b.c]\nd = [[1, 2.5], [3]]\n") == {"a": {"b": {"c": {"d": [[1, 2.5], [3]]}}}}


def test_keys_that_were_taken_out_before_are_still_the_nearest_names_at_the_top():
    with pytest.raises(ConfigError, match="unknown key 'receptor_statu'; did you mean 'receptor_status'"):
        validated(Outer, GOOD | {"receptor_statu": {}}, "run.toml", others=("receptor_status",))
    with pytest.raises(ConfigError, match="unknown key 'zzz'; valid keys here: inner, name, receptor_status, several"):
        validated(Outer, GOOD | {"zzz": 1}, "run.toml", others=("receptor_status",))
    # Inside a section they are none.
    with pytest.raises(ConfigError, match=r"unknown key 'inner\.receptor_statu'; valid keys here: names, rounds"):
        validated(
            Outer, {"name": "x", "inner": {"rounds": 1, "receptor_statu": 1}}, "run.toml", others=("receptor_status",)
        )


def test_a_byte_order_mark_and_windows_line_ends_are_no_matter(tmp_path):
    path = tmp_path / "run.toml"
    path.write_bytes(codecs.BOM_UTF8 + 'name = "café"\r\n[inner]\r\nrounds = 2\r\n'.encode())
    assert read_toml(path, "configuration") == {"name": "café", "inner": {"rounds": 2}}
