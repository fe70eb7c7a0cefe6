"""What starts FedBreast: its own packages, from their source, whatever else lies on the path or beside them."""

import importlib.machinery
import os
import py_compile
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

START = Path(__file__).resolve().parents[1] / "fedbreast.py"
OURS = """import sys, filelock
from shared import locks
print(__name__, *sys.argv[1:], locks.SAID, hasattr(filelock, "FileLock"))
"""
EVIL = "SAID = 'evil'\nprint('evil')\n"
EXTENSION = importlib.machinery.EXTENSION_SUFFIXES[0]


@pytest.fixture
def root(tmp_path):
    """A checkout of a program that imports a module of its own and a library."""
    root = tmp_path / "checkout"
    for name, text in {
        "client/__init__.py": "",
        "client/node.py": OURS,
        "shared/__init__.py": "",
        "shared/locks.py": "SAID = 'good'\n",
        "server/__init__.py": "",
        "server/commands/__init__.py": "",
        "server/commands/cli.py": "from shared import locks\ndef main():\n    import filelock\n    print(locks.SAID)\n",
        "pyproject.toml": "",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    shutil.copy(START, root)
    return root


def started(root, *command, **environment):
    """What a start printed, from the checkout as working folder."""
    return subprocess.run(
        [sys.executable, *command], cwd=root, env=os.environ | environment, capture_output=True, text=True, check=False
    )


def module(root, **environment):
    return started(root, "-I", str(root / "fedbreast.py"), "client.node", "a b", **environment).stdout.splitlines()


def command_line(root, **environment):
    """As the console script does it."""
    return started(root, "-c", "import fedbreast; fedbreast.main()", **{"PYTHONPATH": str(root)} | environment)


def bytecode(root, tmp_path):
    """Bytecode for a source that says something else, in the place where Python looks for it, never compared."""
    (tmp_path / "evil.py").write_text(EVIL)
    for name in ("shared/locks.py", "client/node.py", "server/commands/cli.py"):
        made = importlib.util.cache_from_source(root / name)
        unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
        py_compile.compile(str(tmp_path / "evil.py"), cfile=made, invalidation_mode=unchecked)


def library(root, tmp_path):
    (root / "filelock.py").write_text(EVIL)


def extension(root, tmp_path):
    (root / "shared" / f"locks{EXTENSION}").write_bytes(b"no extension at all")


def other_packages(root, tmp_path):
    for name in ("client", "server", "shared"):
        (tmp_path / "other" / name).mkdir(parents=True)
        (tmp_path / "other" / name / "__init__.py").write_text(EVIL)


TRICKS = [bytecode, library, extension, other_packages]


@pytest.mark.parametrize("trick", TRICKS)
def test_a_module_is_run_from_its_source_and_with_its_libraries_whatever_lies_beside_it(root, tmp_path, trick):
    assert module(root) == ["__main__ a b good True"]
    trick(root, tmp_path)
    assert module(root, PYTHONPATH=str(tmp_path / "other")) == ["__main__ a b good True"]


@pytest.mark.parametrize("trick", TRICKS)
def test_so_is_the_command_line(root, tmp_path, trick):
    trick(root, tmp_path)
    path = os.pathsep.join([str(tmp_path / "other"), str(root)])
    done = command_line(root, PYTHONPATH=path)
    assert (done.stdout, done.stderr) == ("good\n", "")


@pytest.mark.parametrize("trick", TRICKS)
def test_python_by_itself_would_take_each_of_them(root, tmp_path, trick):
    trick(root, tmp_path)
    done = started(root, "-m", "client.node", PYTHONPATH=str(tmp_path / "other"))
    taken = "evil" in done.stdout or "ImportError" in done.stderr
    # With -m the checkout comes before all of PYTHONPATH; a console script's own folder does not hold our packages.
    named = started(tmp_path, "-c", "import shared", PYTHONPATH=os.pathsep.join([str(tmp_path / "other"), str(root)]))
    assert taken or named.stdout == "evil\n"


def test_no_bytecode_is_written_of_our_own_modules(root):
    module(root)
    assert not list(root.rglob("__pycache__"))


def test_a_module_of_ours_that_is_not_there_is_not_looked_for_elsewhere(root, tmp_path):
    other_packages(root, tmp_path)
    (tmp_path / "other" / "shared" / "more.py").write_text(EVIL)
    (root / "shared" / f"more{EXTENSION}").write_bytes(b"")
    for name in ("shared.more", "shared.locks.more", "client.gone"):
        (root / "client" / "node.py").write_text(f"import {name}\n")
        done = started(root, "-I", str(root / "fedbreast.py"), "client.node", PYTHONPATH=str(tmp_path / "other"))
        assert f"FedBreast has no module {name}" in done.stderr or "is not a package" in done.stderr
        assert done.stdout == ""


@pytest.mark.parametrize("trick", TRICKS)
def test_so_is_what_a_pools_processes_import(root, tmp_path, trick):
    trick(root, tmp_path)
    (root / "server" / "commands" / "cli.py").write_text(
        "import multiprocessing\nfrom concurrent.futures import ProcessPoolExecutor\nfrom shared import locks\n"
        "def said(_):\n    import filelock\n    return locks.SAID\n"
        "def main():\n    with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as pool:\n"
        "        print(*pool.map(said, [1]))\n"
    )
    script = tmp_path / "script"
    script.write_text("from fedbreast import main\nif __name__ == '__main__':\n    main()\n")
    path = os.pathsep.join([str(tmp_path / "other"), str(root)])
    assert started(root, str(script), PYTHONPATH=path).stdout == "good\n"
