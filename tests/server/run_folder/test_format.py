"""A folder of another format is refused in one line."""

import json

import pytest
from pydantic import TypeAdapter

from server.run_folder.format import FORMAT, check_format, read_json, write_format
from shared.errors import ConfigError, RunError


def test_what_is_written_is_read(tmp_path):
    write_format(tmp_path)
    check_format(tmp_path)
    assert json.loads((tmp_path / "format.json").read_text()) == {"format": FORMAT}


@pytest.mark.parametrize("written", [None, 1, FORMAT + 1])
def test_an_older_or_a_newer_one_is_refused_with_what_to_do(tmp_path, written):
    folder = tmp_path / "quick"
    folder.mkdir()
    (folder / "config.toml").touch()
    if written is not None:
        (folder / "format.json").write_text(json.dumps({"format": written}))
    with pytest.raises(
        ConfigError, match=f"quick is of format {written or 1}, and this version reads format {FORMAT}: open it with"
    ):
        check_format(folder)


@pytest.mark.parametrize("text", ["", "[]", '{"format": "two"}', "{}", '{"format": null}'])
def test_a_damaged_file_is_refused(tmp_path, text):
    (tmp_path / "format.json").write_text(text)
    with pytest.raises(ConfigError, match=r"format\.json cannot be read: restore it from a copy"):
        check_format(tmp_path)


def test_what_is_no_run_is_not_called_an_old_one(tmp_path):
    with pytest.raises(ConfigError, match="holds no run and no study: name a folder below runs/"):
        check_format(tmp_path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "Invalid JSON: EOF while parsing a value at line 1 column 0"),
        ("[" * 100_000, "Invalid JSON: recursion limit exceeded at line 1 column 202"),
        (
            '{"rounds": {"first": "Jane Doe"}}',
            "'rounds.first': Input should be a valid integer, unable to parse string as an integer",
        ),
        ("[1]", "Input should be an object"),
    ],
)
def test_a_damaged_json_file_is_one_line_with_the_place_and_no_content(tmp_path, text, told):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(RunError) as caught:
        read_json(tmp_path / "a.json", TypeAdapter(dict[str, dict[str, int]]), "run/a.json")
    assert str(caught.value) == f"run/a.json cannot be read: it is damaged ({told}); restore it from a copy"


def test_an_absent_json_file_is_one_line_with_the_hint(tmp_path):
    with pytest.raises(RunError, match=r"^run/a\.json cannot be read: No such file or directory; did the run"):
        read_json(tmp_path / "a.json", TypeAdapter(int), "run/a.json", "; did the run finish?")
    (tmp_path / "a.json").write_text("3")
    assert read_json(tmp_path / "a.json", TypeAdapter(int), "run/a.json") == 3
