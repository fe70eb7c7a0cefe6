"""The app as it travels: what a bundle says of itself."""

import hashlib
import io
import py_compile
import re
import subprocess
import tomllib
import zipfile
from pathlib import Path

import pytest

from shared.errors import ConfigError, RunError
from shared.runtime.app_bundle import (
    STAGE,
    Bundle,
    open_bundle,
    read_bundle,
    refuse_strangers,
    stage_app,
    staged_bundle,
)

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def checkout(tmp_path):
    root = tmp_path / "my checkout (2)"
    for room in ("server", "client", "shared", "configs"):
        (root / room).mkdir(parents=True)
        (root / room / "file.py").write_text("x = 1\n")
    for name in ("pyproject.toml", "README.md", "LICENSE", "fedbreast.py"):
        (root / name).write_bytes((ROOT / name).read_bytes())
    (root / "notes.txt").write_text("no code")
    return root


def zipped(**files):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name.replace("_toml", ".toml").replace("_info", ".info/"), text)
    return content.getvalue()


SOURCE = {"client/app.py": "x = 1", "pyproject.toml": '[project]\nname = "fedbreast"\nversion = "1.2.3"\n'}


def test_a_bundle_tells_its_name_version_and_files_and_its_hash_is_that_of_sha256sums_list(tmp_path):
    content = zipped(**SOURCE, _infoCONTENT="")
    wanted = Bundle("fedbreast 1.2.3", "1.2.3", {path: text.encode() for path, text in SOURCE.items()})
    assert read_bundle(content, "it") == wanted
    (tmp_path / "app.fab").write_bytes(content)
    assert open_bundle(tmp_path / "app.fab") == wanted
    for path, text in SOURCE.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    listed = subprocess.run(["sha256sum", *sorted(SOURCE)], cwd=tmp_path, capture_output=True, check=True).stdout
    assert wanted.sha256 == hashlib.sha256(listed).hexdigest()


def test_the_hash_does_not_depend_on_how_a_bundle_was_compressed_or_in_which_order():
    first = read_bundle(zipped(**SOURCE), "it")
    again = read_bundle(zipped(**dict(reversed(SOURCE.items()))), "it")
    assert first.sha256 == again.sha256 == read_bundle(first.packed(), "it").sha256


@pytest.mark.parametrize(
    "path",
    [
        "filelock.py",
        "client/__pycache__/app.cpython-311.pyc",
        "client/app.cpython-311-x86_64-linux-gnu.so",
        "client/app.pyc",
        "client/../filelock.py",
        "../client/app.py",
        "/client/app.py",
        "client/app.py/",
        "torch/__init__.py",
        "client/\u0430pp.py",
        "sitecustomize.py",
        "client/x.py\n",
        ".info/x.py",
    ],
)
def test_a_bundle_with_anything_but_source_is_refused_by_name(path):
    with pytest.raises(ConfigError, match="it holds what is not an app's source"):
        read_bundle(zipped(**SOURCE, **{path: "x = 2"}), "it")


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_a_bundle_with_two_files_of_one_name_and_one_that_would_fill_the_memory_are_refused():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, text in (*SOURCE.items(), ("client/app.py", "x = 2")):
            archive.writestr(path, text)
    with pytest.raises(ConfigError, match=r"source: client/app\.py$"):
        read_bundle(content.getvalue(), "it")
    with pytest.raises(ConfigError, match="larger than 32 MB"):
        read_bundle(zipped(**SOURCE, **{"client/large.py": "#" * (33 << 20)}), "it")


def test_two_bundles_differ_in_files_that_are_changed_new_or_gone():
    first = Bundle("x", "1", {"client/a.py": b"1", "client/b.py": b"1", "client/c.py": b"1"})
    second = Bundle("x", "1", {"client/a.py": b"1", "client/b.py": b"2", "client/d.py": b"1"})
    assert second.differences(first) == {"client/b.py": "changed", "client/c.py": "gone", "client/d.py": "new"}
    assert first.differences(first) == {}


def test_a_checkout_has_one_hash_until_a_byte_of_its_code_changes(checkout):
    first = open_bundle(checkout)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (first.name, first.version, len(first.files)) == (f"fedbreast {project['version']}", project["version"], 5)
    assert open_bundle(checkout) == first
    (checkout / "client" / "file.py").write_text("x = 2\n")
    assert open_bundle(checkout).sha256 != first.sha256


@pytest.mark.parametrize("place", ["README.md", "LICENSE", "configs/mine.toml", "pyproject.toml", "notes.txt"])
def test_what_does_not_run_does_not_change_the_hash(checkout, place):
    first = open_bundle(checkout).sha256
    (checkout / place).parent.mkdir(exist_ok=True)
    with (checkout / place).open("a") as stream:
        stream.write("\n# one word more\n")
    if place == "pyproject.toml":
        text = (checkout / place).read_text()
        (checkout / place).write_text(text.replace("line-length = 120", "line-length = 121"))
    assert open_bundle(checkout).sha256 == first


@pytest.mark.parametrize(
    ("old", "new"), [("client.app:app", "client.other:app"), ('publisher = "fedbreast"', 'publisher = "another"')]
)
def test_what_flower_reads_of_the_project_does(checkout, old, new):
    first = open_bundle(checkout).sha256
    text = (checkout / "pyproject.toml").read_text()
    (checkout / "pyproject.toml").write_text(text.replace(old, new))
    assert open_bundle(checkout).sha256 != first


STRANGERS = [
    "filelock.py",
    "torch/__init__.py",
    "typer.cpython-311-x86_64-linux-gnu.so",
    "six.pyc",
    "client/file.cpython-311-x86_64-linux-gnu.so",
    "shared/file.abi3.so",
    "server/other.pyc",
]


@pytest.mark.parametrize("place", STRANGERS)
def test_code_in_a_checkout_that_no_hash_covers_is_refused_by_name(checkout, place):
    refuse_strangers(checkout)
    (checkout / place).parent.mkdir(exist_ok=True)
    (checkout / place).write_bytes(b"")
    with pytest.raises(ConfigError, match=rf"no hash covers: {re.escape(place.removesuffix('/__init__.py'))}\."):
        open_bundle(checkout)


@pytest.mark.parametrize("room", ["client", "."])
def test_bytecode_that_is_never_compared_with_its_source_is_refused_and_other_bytecode_is_not(checkout, room):
    source = checkout / room / "file.py" if room != "." else checkout / "fedbreast.py"
    source.write_text("x = 1\n")
    for mode in (py_compile.PycInvalidationMode.TIMESTAMP, py_compile.PycInvalidationMode.CHECKED_HASH):
        py_compile.compile(str(source), invalidation_mode=mode)
        refuse_strangers(checkout)
    made = py_compile.compile(str(source), invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    with pytest.raises(ConfigError, match=re.escape(str(Path(made).relative_to(checkout)))):
        refuse_strangers(checkout)


def test_our_own_checkout_has_no_strangers():
    refuse_strangers(ROOT)


def test_a_project_that_describes_no_app_is_named(checkout):
    (checkout / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    with pytest.raises(ConfigError, match=r"pyproject\.toml describes no app of Flower"):
        open_bundle(checkout)


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
    (checkout / "fedbreast.py").symlink_to(ROOT / "fedbreast.py")
    app = stage_app(checkout, tmp_path / STAGE)
    staged = {str(path.relative_to(app)) for path in app.rglob("*.py")}
    assert staged == {"fedbreast.py"} | {
        str(path.relative_to(ROOT)) for room in ("server", "client", "shared") for path in (ROOT / room).rglob("*.py")
    }
    assert not list(app.rglob("__pycache__"))
    made = read_bundle(build_fab_from_disk(app), "Flower's")
    assert made.differences(staged_bundle(app)) == {}
    assert made.sha256 == staged_bundle(app).sha256 == open_bundle(checkout).sha256


def test_a_folder_that_is_no_checkout_is_named(tmp_path):
    with pytest.raises(RunError, match=r"no pyproject.toml.*FEDBREAST_ROOT"):
        stage_app(tmp_path, tmp_path / "stage")
