"""The app as it travels: what a bundle says of itself."""

import hashlib
import io
import tomllib
import zipfile
from pathlib import Path

import pytest

from shared.errors import ConfigError, RunError
from shared.runtime.app_bundle import STAGE, Bundle, open_bundle, read_bundle, stage_app

ROOT = Path(__file__).resolve().parents[3]


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


# Flower's own use of a library.
@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")
def test_a_checkout_has_one_hash_until_a_byte_of_its_code_changes(tmp_path):
    checkout = tmp_path / "my checkout (2)"
    for room in ("server", "client", "shared", "configs"):
        (checkout / room).mkdir(parents=True)
        (checkout / room / "file.py").write_text("x = 1\n")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (checkout / name).write_bytes((ROOT / name).read_bytes())
    (checkout / "notes.txt").write_text("no code")
    first = open_bundle(checkout)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (first.name, first.version, first.files) == (f"fedbreast {project['version']}", project["version"], 5)
    assert open_bundle(checkout) == first
    (checkout / "client" / "file.py").write_text("x = 2\n")
    assert open_bundle(checkout).sha256 != first.sha256


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


# Flower's own use of a library.
@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")
def test_the_app_is_staged_whole_under_a_name_flower_takes(tmp_path):
    from flwr.cli.build import build_fab_from_disk

    checkout = tmp_path / "my checkout (2)"
    checkout.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "server", "client", "shared", "configs", "tests"):
        (checkout / name).symlink_to(ROOT / name)
    app = stage_app(checkout, tmp_path / STAGE)
    staged = {str(path.relative_to(app)) for path in app.rglob("*.py")}
    assert staged == {
        str(path.relative_to(ROOT)) for room in ("server", "client", "shared") for path in (ROOT / room).rglob("*.py")
    }
    assert not list(app.rglob("__pycache__"))
    assert len(build_fab_from_disk(app)) > 10_000


def test_a_folder_that_is_no_checkout_is_named(tmp_path):
    with pytest.raises(RunError, match=r"no pyproject.toml.*FEDBREAST_ROOT"):
        stage_app(tmp_path, tmp_path / "stage")
