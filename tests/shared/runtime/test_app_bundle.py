"""The app as it travels: what a bundle says of itself."""

import hashlib
import io
import zipfile

import pytest

from shared.errors import ConfigError
from shared.runtime.app_bundle import Bundle, open_bundle, read_bundle


def zipped(**files):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("_toml", ".toml").replace("_info", ".info/"), text)
    return content.getvalue()


def test_a_bundle_tells_its_hash_name_version_and_number_of_files(tmp_path):
    content = zipped(pyproject_toml='[project]\nname = "fedbreast"\nversion = "1.2.3"\n', code="x = 1", _infoCONTENT="")
    wanted = Bundle(hashlib.sha256(content).hexdigest(), "fedbreast 1.2.3", "1.2.3", 2)
    assert read_bundle(content, "it") == wanted
    (tmp_path / "app.fab").write_bytes(content)
    assert open_bundle(tmp_path / "app.fab") == wanted


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no archive",
        zipped(code="x"),
        zipped(pyproject_toml=""),
        zipped(pyproject_toml="[project"),
        zipped(pyproject_toml="project = 3"),
        zipped(pyproject_toml="project = [1]"),
        zipped(pyproject_toml=b"\xff"),
    ],
)
def test_what_is_no_bundle_is_refused_by_the_name_it_was_given(content):
    with pytest.raises(ConfigError, match=r"^the server's app is not an app's bundle$"):
        read_bundle(content, "the server's app")
