"""The house: which room may know which, and what the packaging promises."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

from shared.tasks import TASKS

ROOT = Path(__file__).resolve().parents[1]
CLOCK = re.compile(r"(^|\.)(now|utcnow|today|time|time_ns|localtime|gmtime|ctime|monotonic|perf_counter)$")
ORDER = ["dicom", "cohort", "preprocessing", "modalities", "models", "inference", "tasks", "training", "evaluation"]


def imports(file):
    """Project modules a file imports, also lazily inside functions, as dotted names."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {node.module, *(f"{node.module}.{item.name}" for item in node.names)}
        elif isinstance(node, ast.Import):
            found |= {item.name for item in node.names}
        elif isinstance(node, ast.ImportFrom):
            pytest.fail(f"{file.relative_to(ROOT)} has a relative import: name the room")
    return {name for name in found if name.split(".")[0] in {"server", "client", "shared"}}


def files(folder):
    return sorted((ROOT / folder).rglob("*.py"))


def test_shared_knows_neither_side():
    for file in files("shared"):
        assert not {name for name in imports(file) if not name.startswith("shared")}, file


def test_the_two_sides_do_not_know_each_other():
    for file in files("client"):
        assert not {name for name in imports(file) if name.startswith("server")}, file
    for file in files("server"):
        assert not {name for name in imports(file) if name.startswith("client")}, file


def test_within_shared_the_flow_is_one_way():
    for file in files("shared"):
        room = file.relative_to(ROOT / "shared").parts[0].removesuffix(".py")
        if room not in ORDER:
            continue
        later = ORDER[ORDER.index(room) + 1 :]
        known = {name.split(".")[1] for name in imports(file) if name.count(".") >= 1}
        # Metrics are leaves: anything after them may use them, they use nothing before them.
        assert not known & set(later), file


def test_metrics_and_phantom_stand_alone():
    allowed = {"types", "errors", "reproducibility", "atomic_files"}
    for room in ("metrics", "phantom"):
        for file in files(f"shared/{room}"):
            # The phantom makes MRI: it may say what an exam of MRI is.
            names = {name for name in imports(file) if not name.startswith("shared.modalities.mri.dce_study")}
            known = {name.split(".")[1] for name in names if name.count(".") >= 1}
            assert known <= allowed | {room}, file


def test_no_file_but_its_own_knows_what_an_exam_of_mri_is():
    for folder in ("server", "client", "shared"):
        for file in files(folder):
            if not {"mri", "phantom"} & set(file.relative_to(ROOT).parts):
                text = file.read_text(encoding="utf-8")
                assert not re.search(r"DceStudy|post_phases|phases\[1\] - \w*\.?phases\[0\]", text), file


def test_no_file_but_a_tasks_own_knows_its_name():
    """Nor its module: all read the table of tasks. One is named elsewhere, as what a run trains that names none."""
    modules = set(TASKS.values())
    named = []
    for file in (file for folder in ("server", "client", "shared") for file in files(folder)):
        if "tasks" in file.relative_to(ROOT).parts[:2]:
            continue
        assert not modules & imports(file), file
        constants = [node.value for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Constant)]
        named += [(file.name, value) for value in constants if isinstance(value, str) and value in TASKS]
    assert named == [("run_config.py", "lesion-segmentation")]


def test_nothing_imports_a_command():
    for folder in ("server", "client", "shared"):
        for file in files(folder):
            if "commands" not in file.parts:
                assert not {name for name in imports(file) if name.startswith("server.commands")}, file


def run_at_import(node):
    """Everything below a node that Python evaluates when it imports the module: no bodies of functions."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            for part in (*child.decorator_list, *child.args.defaults, *filter(None, child.args.kw_defaults)):
                yield part
                yield from run_at_import(part)
        elif not isinstance(child, ast.Lambda):
            yield child
            yield from run_at_import(child)


def clocks_read(code):
    """Calls of a clock while a module is imported."""
    calls = [node for node in run_at_import(ast.parse(code)) if isinstance(node, ast.Call)]
    return [ast.unparse(node) for node in calls if CLOCK.search(ast.unparse(node.func))]


def test_no_test_reads_the_clock_when_it_is_imported():
    """A run that begins before midnight would compare yesterday with today."""
    for file in files("tests"):
        assert clocks_read(file.read_text(encoding="utf-8")) == [], file


@pytest.mark.parametrize(
    ("code", "read"),
    [
        ("NOW = datetime.now(UTC)", True),
        ("TODAY = date.today()", True),
        ("START = time.time()", True),
        ("START = monotonic()", True),
        ("class A:\n    born = datetime.utcnow()", True),
        ("def made(now=datetime.now(UTC)): pass", True),
        ("@parametrize('now', [datetime.now(UTC)])\ndef test(now): pass", True),
        ("def test():\n    now = datetime.now(UTC)", False),
        ("make = lambda: datetime.now(UTC)", False),
        ("NOW = datetime(2030, 1, 1, tzinfo=UTC)", False),
    ],
)
def test_the_search_sees_every_clock_read_at_import(code, read):
    assert bool(clocks_read(code)) == read


def test_packages_are_listed_and_the_application_never_reaches_an_index():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {
        str(file.parent.relative_to(ROOT)).replace("/", ".")
        for folder in ("server", "client", "shared")
        for file in (ROOT / folder).rglob("__init__.py")
    }
    assert set(project["tool"]["setuptools"]["packages"]) == packages
    assert "Private :: Do Not Upload" in project["project"]["classifiers"]
    assert not (ROOT / "docker" / "__init__.py").exists()  # it would shadow the `docker` package of others


def test_every_dependency_is_constrained_and_kept_from_uv():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())

    def plain(items):
        return {re.split(r"[\[=<>]", item)[0].strip().lower() for item in items}

    names = plain(project["project"]["dependencies"])
    extras = set().union(*(plain(items) for items in project["project"]["optional-dependencies"].values()))
    assert set(project["tool"]["uv"]["exclude-dependencies"]) == names | extras
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    assert names | extras <= pinned
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text().splitlines()


def test_the_tree_in_the_docs_names_every_room():
    tree = (ROOT / "docs" / "architecture.md").read_text()
    for folder in ("server", "client", "shared"):
        for item in (ROOT / folder).iterdir():
            if item.name.startswith("__") or item.suffix not in {"", ".py"}:
                continue
            assert f"  {item.name}{'/' if item.is_dir() else ''} " in tree, f"{folder}/{item.name} is not in the tree"
