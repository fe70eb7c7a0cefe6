"""A folder of another format is refused in one line."""

import json

import pytest

from server.run_folder.format import FORMAT, check_format, write_format
from shared.errors import ConfigError


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
