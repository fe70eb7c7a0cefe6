"""Flower's private names: the list is whole, every name in it exists, and another version of Flower is refused."""

import ast
import inspect
import re
import tomllib
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name

import pytest

from shared.errors import RunError
from shared.runtime import flower_internals
from shared.runtime.flower_internals import (
    INTERNALS,
    TESTED,
    check_flower,
    flower_internal,
    number_message,
    replace_flower_internal,
)

ROOT = Path(__file__).resolve().parents[3]
PUBLIC = {"flwr.app", "flwr.clientapp", "flwr.serverapp", "flwr.serverapp.strategy"}
LISTED = {name for item in INTERNALS for name in item.names}
LAST = {re.split(r"[.:]", name)[-1] for name in LISTED}
GUARD = ROOT / "shared" / "runtime" / "flower_internals.py"
# Run by its path before anything of ours may be loaded: it names what is listed, without the guard.
BY_ITSELF = ROOT / "client" / "node" / "warm_process.py"
SOURCES = sorted(
    file for room in ("server", "client", "shared") for file in (ROOT / room).rglob("*.py") if file != GUARD
)


def unlisted(code, *, by_itself=False):
    """What a source takes of Flower's private names other than through the guard, or that is not listed."""
    tree = ast.parse(code)
    guarded = {
        id(call.args[0])
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and ast.unparse(call.func) in {"flower_internal", "replace_flower_internal"}
    }
    # A field that a class of this very file declares is nobody else's.
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    declared = {
        field.target.id
        for node in classes
        for field in node.body
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
    }
    wrong = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            wrong |= {item.name for item in node.names if item.name.split(".")[0] == "flwr" and item.name not in PUBLIC}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "flwr":
            offered = import_module(node.module).__all__ if node.module in PUBLIC else ()
            wrong |= {f"{node.module}:{item.name}" for item in node.names if item.name not in offered}
        elif id(node) in guarded:
            wrong |= {ast.unparse(node)} - {repr(name) for name in LISTED}
        elif isinstance(node, ast.Constant) and re.fullmatch(r"flwr(\.\w+)+(:[\w.]+)?", str(node.value)):
            listed = by_itself and (node.value in LISTED or any(name.startswith(f"{node.value}:") for name in LISTED))
            wrong |= set() if listed or node.value in PUBLIC else {node.value}
        elif isinstance(node, ast.Attribute) and (node.attr == "__dict__" or re.match("_[^_]", node.attr)):
            own = ast.unparse(node.value) in {"self", "cls", "os"} and node.attr != "__dict__"
            wrong |= set() if own or node.attr in LAST | declared else {node.attr}
    return wrong


def test_no_source_takes_a_private_name_but_through_the_guard():
    for file in SOURCES:
        assert unlisted(file.read_text(encoding="utf-8"), by_itself=file == BY_ITSELF) == set(), file


@pytest.mark.parametrize(
    "code",
    [
        "import flwr.supercore.fab",
        "from flwr.supercore.fab import Fab",
        "def late():\n    from flwr.common import constant",
        "from flwr.app import Metadata, make_message",
        "import_module('flwr.superlink.cli').flower_superlink",
        "flower_internal('flwr.supercore.fab:Unknown')",
        "flower_internal(name)",
        "message.metadata._message_kind = 1",
        "message.metadata.__dict__['_message_id'] = 1",
        "super()._unknown()",
    ],
)
def test_the_search_sees_every_way_to_take_one(code):
    assert unlisted(code)


@pytest.mark.parametrize("code", ["from flwr.app import Message", "flower_internal('flwr.supercore.fab:Fab')"])
def test_the_search_lets_pass_what_is_public_or_listed(code):
    assert not unlisted(code)


@pytest.mark.filterwarnings("ignore:The 'is_flag':DeprecationWarning")  # of Typer, about Flower's own command line
def test_every_listed_name_is_there():
    for name in LISTED:
        try:
            flower_internal(name)
        except AttributeError:  # the instances have it, not the class
            owner, _, attribute = name.rpartition(".")
            sources = "".join(inspect.getsource(kind) for kind in resolve_name(owner).__mro__ if kind is not object)
            assert re.search(rf"self\.{attribute}\b|\"{attribute}\"", sources), name


def test_every_listed_name_is_needed_and_listed_once():
    assert len(LISTED) == sum(len(item.names) for item in INTERNALS)
    text = "\n".join(file.read_text(encoding="utf-8") for file in SOURCES) + inspect.getsource(number_message)
    assert not {name for name in LAST if not re.search(rf"\b{name}\b", text)}


def test_every_listed_name_has_a_reason_and_a_test_that_exists():
    tests = re.findall(
        r"^def (test_\w+)", "\n".join(file.read_text() for file in (ROOT / "tests").rglob("*.py")), re.MULTILINE
    )
    for item in INTERNALS:
        assert tests.count(item.test) == 1, item.test
        assert item.reason


@pytest.fixture
def another_flower(monkeypatch):
    monkeypatch.setattr(flower_internals, "version", lambda _: "1.43.0")
    check_flower.cache_clear()
    yield
    check_flower.cache_clear()


@pytest.mark.usefixtures("another_flower")
def test_another_version_of_flower_is_refused_in_one_line_with_the_remedy():
    for call in (check_flower, lambda: flower_internal("flwr.supercore.fab:Fab"), lambda: number_message(None, "1")):
        with pytest.raises(RunError) as caught:
            call()
        assert re.search(r"1\.43\.0.*1\.42\.0.*pip install -c constraints\.txt", str(caught.value))
        assert "\n" not in str(caught.value)


def test_the_tested_version_is_the_one_that_is_installed_here_and_everywhere():
    pinned = f"flwr=={TESTED}"
    assert pinned in (ROOT / "constraints.txt").read_text().splitlines()
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert pinned.replace("flwr", "flwr[simulation]") in dependencies
    check_flower()


def test_what_is_not_listed_is_not_given():
    with pytest.raises(KeyError, match=r"flwr\.common\.constant:Status is not listed"):
        flower_internal("flwr.common.constant:Status")


@pytest.mark.parametrize(
    "name",
    [
        "flwr.supernode.start_client_internal:_verify_fab",
        "flwr.supernode.nodestate.in_memory_nodestate:InMemoryNodeState._on_task_tokens_expired",
    ],
)
def test_a_function_and_a_method_can_be_replaced(name):
    before = resolve_name(name)
    try:
        replace_flower_internal(name, len)
        assert resolve_name(name) is len
    finally:
        replace_flower_internal(name, before)
