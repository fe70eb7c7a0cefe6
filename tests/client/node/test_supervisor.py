"""What keeps a hospital's node running: what it refuses to start with, and the reason it gives when a node ended."""

import importlib.machinery
import importlib.util
import os
import py_compile
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import Mock

import pytest

from client.node import supervisor
from client.node.audit_tail import Events
from client.node.site_kit import APPROVED_FILE, SITE_DATA, SiteKit
from client.node.supervisor import _START, _reason, check_kit, serve_site
from shared.errors import ConfigError, RunError, SiteError
from shared.runtime.app_bundle import open_bundle
from shared.runtime.audit_log import AuditLog, read
from shared.runtime.flower_home import fresh_home
from shared.runtime.processes import MARK
from tests.hospitals import make_consortium_with_hospitals

TOML = 'name = "toy"\n[server]\naddress = "127.0.0.1"\n[[sites]]\nname = "centre-a"\n[[sites]]\nname = "centre-b"\n'
ROOT = Path(__file__).resolve().parents[3]
FIRST, SECOND = "ab" * 32, "ac" * 32


def made(folder, now=None):
    """A kit whose hospital has joined, its data beside it."""
    (folder / "toy.toml").write_text(TOML)
    make_consortium_with_hospitals(folder / "toy.toml", folder / "out", now)
    kit = folder / "out" / "centre-a"
    (kit / "data").mkdir()
    (kit / "data" / "site.toml").write_text('[site]\nname = "centre-a"\n')
    (kit / "data" / "cases.csv").write_text("patient\n")
    return kit


def test_a_kit_as_it_was_installed_is_good(tmp_path):
    check_kit(SiteKit(made(tmp_path)))


def test_a_relative_site_folder_is_the_one_seen_from_where_the_command_was_given(tmp_path, monkeypatch):
    kit = made(tmp_path)
    (kit / "data").rename(tmp_path / "north")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(SITE_DATA, "north")
    found = []
    monkeypatch.setattr(supervisor, "_keep_running", lambda *given: found.append(given[2][SITE_DATA]))
    serve_site(SiteKit(kit), lambda *_: None)
    assert found == [str(tmp_path / "north")]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda kit: (kit / "keys/site.key").chmod(0o644), "site.key can be read by others: chmod 600"),
        (lambda kit: (kit / "keys/node.key").chmod(0o660), "node.key can be read by others: chmod 600"),
        (
            lambda kit: kit.chmod(0o707),
            "everybody can write to .*centre-a, and so change what the node runs: chmod o-w",
        ),
        (lambda kit: (kit / "state").chmod(0o777), "everybody can write to .*state"),
        (lambda kit: kit.parent.chmod(0o777), "everybody can write to [^ ]*, and so change what the node runs"),
        (lambda kit: (kit / "keys/node.key").unlink(), "node.key is missing"),
        (lambda kit: (kit / "certificates/ca.crt").unlink(), "ca.crt is missing"),
        (lambda kit: (kit / "certificates/ca.crt").write_text("x"), "damaged"),
        (lambda kit: (kit / "certificates/site.crt").write_text("x"), "damaged"),
        (lambda kit: (kit / "keys/node.key").write_text("x"), "damaged"),
        (lambda kit: shutil.copy(kit.parent / "centre-b/keys/site.key", kit / "keys/site.key"), "no pair"),
    ],
)
def test_a_kit_that_cannot_be_used_is_refused_with_what_to_do(tmp_path, change, words):
    kit = made(tmp_path)
    change(kit)
    with pytest.raises(ConfigError, match=words):
        check_kit(SiteKit(kit))


def test_an_expired_certificate_is_refused_with_its_day(tmp_path):
    now = datetime.now(UTC)
    kit = made(tmp_path, now - timedelta(days=366))
    with pytest.raises(ConfigError, match=f"expired on {now - timedelta(days=1):%Y-%m-%d}.*fedbreast join"):
        check_kit(SiteKit(kit))


def test_anothers_data_and_no_data_are_refused(tmp_path):
    kit = made(tmp_path)
    (kit / "data" / "site.toml").write_text('[site]\nname = "centre-b"\n')
    with pytest.raises(ConfigError, match="'centre-b', this kit is 'centre-a'"):
        check_kit(SiteKit(kit))
    shutil.rmtree(kit / "data")
    with pytest.raises(SiteError, match="does not exist"):
        check_kit(SiteKit(kit))


def test_a_kit_is_served_once_at_a_time(tmp_path):
    kit = SiteKit(made(tmp_path))
    with kit.in_use(), pytest.raises(RunError, match="served by another process already"), kit.in_use():
        pass
    with kit.in_use():
        pass


# What Flower and our client write, as in `tests/server/deployment/test_superlink.py`, where each really happens.
@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("the server refuses: 412 flower\n[code: 2004] Failed to activate SuperNode.", "another node is connected"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed", "the server's certificate is not"),
        ("the server refuses: 401 door", "the server refuses this site's certificate"),
        ("the server refuses: 401 flower clocks differ by 310 s", "clock"),
        ("the server refuses: 401 flower", "does not know this node any more"),
        ("SuperNode terminated gracefully.", "the connection was lost"),
        ("Invalid key already 401 403 400 Bad Request", "the connection was lost"),
    ],
)
def test_the_reason_is_read_from_what_the_last_node_wrote(tmp_path, lines, reason):
    log = tmp_path / "node.log"
    log.write_text(f"{_START}\nthe server refuses: 403 door\n{_START}\nINFO: started\n{lines}\nINFO: ended\n")
    assert reason in _reason(log)


class _Enough(Exception):  # noqa: N818 - ends a loop that has no end
    pass


@pytest.mark.parametrize("how", ["withdrawn", "damaged", "removed"])
def test_a_node_is_ended_when_an_approval_is_taken_back_and_started_anew_without_it(tmp_path, monkeypatch, how):
    kit, nodes, glances, pauses = SiteKit(made(tmp_path)), [], [], []
    kit.approve(FIRST, "fedbreast 1.0")
    kit.approve(SECOND, "fedbreast 1.1")

    @contextmanager
    def node(*_):
        assert all(process.poll() is not None for process in nodes)
        nodes.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]))
        try:
            yield nodes[-1]
        finally:
            nodes[-1].kill()
            nodes[-1].wait()

    def slept(wait_s):
        if wait_s != supervisor._LOOK_EVERY_S:
            assert nodes[-1].returncode is not None  # before the pause, so that nothing is answered in it
            pauses.append(wait_s)
            return
        glances.append(len(nodes))
        if glances == [1, 1]:
            kit.approve("ad" * 32, "fedbreast 1.2")  # one more is no reason
        elif glances == [1, 1, 1, 1]:
            take_back()
        elif glances[-3:] == [2, 2, 2]:
            raise _Enough

    def take_back():
        if how == "withdrawn":
            kit.withdraw(SECOND[:8])
        elif how == "damaged":
            (kit.folder / APPROVED_FILE).write_text("[[app")
        else:
            (kit.folder / APPROVED_FILE).unlink()

    monkeypatch.setattr(supervisor, "_node", node)
    monkeypatch.setattr(supervisor, "_warm_process", lambda *_: Mock(poll=lambda: None))
    monkeypatch.setattr(supervisor.time, "sleep", slept)
    audit = AuditLog(kit.state / "audit.jsonl")
    with pytest.raises(_Enough):
        supervisor._keep_running(
            kit, tmp_path, {MARK: "none"}, tmp_path / "door", audit, Events(audit.path, lambda *_: None)
        )
    assert glances == [1, 1, 1, 1, 2, 2, 2]
    assert pauses == [supervisor.PAUSES_S[0]]
    asked, installed, line = read(audit.path)
    assert (asked["event"], installed["event"]) == ("admission-requested", "kit-installed")
    assert (line["event"], line["site"]) == ("connection-ended", "centre-a")
    assert "an approval was withdrawn" in line["why"]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout in place of this one; its node ends as soon as it has said whose code it runs."""
    root = tmp_path / "checkout"
    says = (
        "import sys, filelock\nfrom shared import locks\nprint(__name__, locks.SAID, filelock.__file__, flush=True)\n"
    )
    for name, text in {
        "client/__init__.py": "",
        "client/node/__init__.py": "",
        "client/node/supernode.py": says,
        "client/node/warm_process.py": "print('warm', flush=True)\n",
        "shared/__init__.py": "",
        "shared/locks.py": "SAID = 'good'\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for name in ("pyproject.toml", "fedbreast.py"):
        shutil.copy(ROOT / name, root)
    monkeypatch.setattr(supervisor, "_OWN_SOURCE", root)
    return root


def served(kit, monkeypatch):
    """What the processes of a first node said."""
    monkeypatch.setattr(supervisor, "_LOOK_EVERY_S", 0.01)

    def ended(*_):
        raise _Enough

    monkeypatch.setattr(supervisor, "_reason", ended)
    kept = supervisor._node

    @contextmanager
    def node(*given):
        with kept(*given) as process:
            until = time.monotonic() + 30
            while "warm" not in (kit.state / "node.log").read_text() and time.monotonic() < until:
                time.sleep(0.02)
            process.wait(30)
            yield process

    monkeypatch.setattr(supervisor, "_node", node)
    with pytest.raises(_Enough):
        serve_site(kit, lambda *_: None)
    return (kit.state / "node.log").read_text()


@pytest.mark.parametrize("lasts", [True, False])
def test_the_warm_process_outlives_the_nodes_and_one_that_ended_is_started_again(
    tmp_path, checkout, monkeypatch, lasts
):
    kit = SiteKit(made(tmp_path))
    warm = "import os, time\nprint('warm', os.getpid(), flush=True)\n" + "time.sleep(600)\n" * lasts
    (checkout / "client/node/warm_process.py").write_text(warm)
    monkeypatch.setattr(supervisor, "_LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(supervisor, "PAUSES_S", (0.1,))
    log, nodes = kit.state / "node.log", []

    def ended(*_):
        nodes.append(1)
        until = time.monotonic() + 30
        while log.read_text().count("warm") < (1 if lasts else len(nodes)) and time.monotonic() < until:
            time.sleep(0.02)
        if len(nodes) == 3:
            raise _Enough
        return "it ended"

    monkeypatch.setattr(supervisor, "_reason", ended)
    with pytest.raises(_Enough):
        serve_site(kit, lambda *_: None)
    said = log.read_text()
    assert said.count("__main__ good") == 3
    pids = [int(line.split()[1]) for line in said.splitlines() if line.startswith("warm")]
    assert len(set(pids)) == (1 if lasts else 3)
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


EVIL = "SAID = 'evil'\nprint('evil', flush=True)\n"


def is_good(kit, honest, monkeypatch):
    """Whether a node of this kit runs the honest source, and says so."""
    said = served(kit, monkeypatch)
    assert "__main__ good" in said
    assert "site-packages/filelock" in said
    assert "warm" in said
    assert "evil" not in said
    (started,) = [line for line in read(kit.audit_file) if line["event"] == "serving-started"]
    return started["program"] == honest


@pytest.mark.parametrize("trick", ["none", "bytecode", "library", "extension"])
def test_the_node_runs_the_source_whose_hash_it_records_whatever_lies_in_the_checkout(
    tmp_path, checkout, monkeypatch, trick
):
    kit, honest = SiteKit(made(tmp_path)), open_bundle(checkout).sha256
    monkeypatch.setattr(supervisor, "refuse_strangers", lambda _: None)  # even if it overlooked them
    (tmp_path / "evil.py").write_text(EVIL)
    if trick == "bytecode":
        for name in ("shared/locks.py", "client/node/supernode.py", "client/node/warm_process.py"):
            never = py_compile.PycInvalidationMode.UNCHECKED_HASH
            cache = importlib.util.cache_from_source(checkout / name)
            py_compile.compile(str(tmp_path / "evil.py"), cfile=cache, invalidation_mode=never)
    elif trick == "library":
        (checkout / "filelock.py").write_text(EVIL)
    elif trick == "extension":
        (checkout / "shared" / f"locks{importlib.machinery.EXTENSION_SUFFIXES[0]}").write_bytes(b"x")
    assert is_good(kit, honest, monkeypatch)


@pytest.mark.parametrize("trick", ["edited", "linked", "renamed"])
def test_what_is_exchanged_between_hash_and_import_does_not_run(tmp_path, checkout, monkeypatch, trick):
    kit, honest = SiteKit(made(tmp_path)), open_bundle(checkout).sha256
    staged, source = supervisor.stage_program, checkout / "shared" / "locks.py"
    edited = source
    if trick == "linked":  # the source leads elsewhere, and that file has another name
        source.symlink_to(source.rename(tmp_path / "elsewhere.py"))
        edited = tmp_path / "again.py"
        edited.hardlink_to(source.resolve())

    def stage(home):
        program = staged(home)
        if trick == "renamed":
            checkout.rename(tmp_path / "away")
            shutil.copytree(tmp_path / "away", checkout)
        edited.write_text(EVIL)
        assert source.read_text() == EVIL
        return program

    monkeypatch.setattr(supervisor, "stage_program", stage)
    assert is_good(kit, honest, monkeypatch)


def test_no_variable_of_the_environment_brings_code_into_a_node(tmp_path, checkout, monkeypatch):
    kit, honest = SiteKit(made(tmp_path)), open_bundle(checkout).sha256
    version = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    for place in ("path", f"base/{version}", f"home/.local/{version}"):
        folder = tmp_path / place
        folder.mkdir(parents=True)
        (folder / "evil.pth").write_text("import sys; print('evil', flush=True)\n")
        for name in ("sitecustomize", "usercustomize", "filelock", "shared", "client"):
            (folder / f"{name}.py").write_text(EVIL)
    for name, value in {"PATH": "path", "STARTUP": "path/shared.py", "USERBASE": "base", "HOME": "base"}.items():
        monkeypatch.setenv(f"PYTHON{name}", str(tmp_path / value))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert is_good(kit, honest, monkeypatch)


@pytest.mark.parametrize("place", ["filelock.py", "shared/locks.abi3.so"])
def test_a_node_does_not_start_where_code_lies_beside_its_source(tmp_path, checkout, place):
    (checkout / place).write_bytes(b"")
    with pytest.raises(ConfigError, match=place):
        serve_site(SiteKit(made(tmp_path)), lambda *_: None)


def test_only_the_nodes_account_can_enter_the_folder_that_it_runs_from(tmp_path, checkout):
    state = tmp_path / "state"
    state.mkdir()
    program = supervisor.stage_program(fresh_home(state))
    assert program.parent.stat().st_mode & 0o777 == 0o700
    assert {path.name for path in program.iterdir()} == {"client", "shared", "fedbreast.py", "pyproject.toml"}
