"""The gate for apps: what a hospital approved passes, under the hash, name and version that are its own."""

import hashlib
import io
import zipfile
from types import SimpleNamespace

import pytest
import tomli_w
from flwr.common.config import get_project_dir
from flwr.supercore.constant import TaskType
from flwr.supercore.fab import Fab

from client.node.app_approval import AppGate
from client.node.site_kit import APPROVED_FILE, SiteKit
from shared.runtime.app_bundle import APP, read_bundle
from shared.runtime.audit_log import AuditLog, read

VERSION = "0.1.0"


def bundled(version=VERSION, comment="", more=None):
    """A bundle of nothing but what it says of itself."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(
            "pyproject.toml", tomli_w.dumps({"project": {"name": "fedbreast", "version": version}}) + comment
        )
        for path, text in (more or {}).items():
            archive.writestr(path, text)
    return content.getvalue()


def digest_of(content):
    """The content hash, by which a hospital approves."""
    return read_bundle(content, "it").sha256


def flowers(content):
    """Flower's name for a bundle: the hash of its bytes."""
    return hashlib.sha256(content).hexdigest()


CONTENT = bundled()
DIGEST, NAMED = digest_of(CONTENT), flowers(CONTENT)
OTHER = bundled(comment="# another\n")


@pytest.fixture
def kit(tmp_path):
    settings = {"server": {"address": "127.0.0.1", "port": 9443}, "site": {"name": "centre-a"}}
    (tmp_path / "node.toml").write_text(tomli_w.dumps(settings))
    return SiteKit(tmp_path)


def told_run(**changes):
    """What the server says of a run of the app."""
    given = {
        "run_id": 7,
        "fab_id": APP,
        "fab_version": VERSION,
        "fab_hash": NAMED,
        "primary_task_type": "flwr-serverapp",
    }
    return SimpleNamespace(**given | changes)


def passed(kit, fab=None, named=NAMED, asked=True, **changes):
    """The bundle as Flower gets it, and the event that was recorded."""
    audit = AuditLog(kit.state / "audit.jsonl")
    gate = AppGate(kit, audit, lambda _: told_run(**changes), lambda *_: fab or Fab(NAMED, CONTENT, {}))
    if asked:
        gate.get_run(7)
    found = gate.get_fab(named, 7)
    *_, last = read(audit.path)
    return found, last


def refused(kit, *arguments, **changes):
    """Why it was."""
    fab, line = passed(kit, *arguments, **changes)
    assert not fab.verifications
    assert line["event"] == "app-refused"
    return line["why"]


def test_an_approved_app_gets_a_licence_and_the_log_names_it(kit):
    kit.approve(DIGEST, "fedbreast 1.0")
    fab, line = passed(kit)
    assert fab.verifications.get("valid_license")
    assert (fab.hash_str, fab.content) == (NAMED, CONTENT)
    assert (line["event"], line["app"], line["run"], line["site"]) == ("app-accepted", DIGEST, "7", "centre-a")


def test_an_app_that_is_not_approved_gets_none(kit):
    kit.approve("0" * 64, "another")
    fab, line = passed(kit)
    assert not fab.verifications
    assert (line["event"], line["app"]) == ("app-refused", DIGEST)


def test_a_refusal_names_the_files_that_differ_from_what_was_approved_last(kit):
    first = bundled(more={"client/a.py": "1", "client/b.py": "1", "client/c.py": "1"})
    kit.keep(read_bundle(first, "it"))
    kit.approve(digest_of(first), "fedbreast 1.0")
    other = bundled(more={"client/a.py": "1", "client/b.py": "2", "client/d.py": "1"})
    why = refused(kit, Fab(flowers(other), other, {}))
    assert why == (
        "it is not approved; unlike the app approved last: client/b.py is changed, client/c.py is gone, "
        "client/d.py is new"
    )
    many = bundled(more={f"client/m{number}.py": "" for number in range(9)})
    assert refused(kit, Fab(flowers(many), many, {})).endswith("client/m1.py is new and 7 more")


def test_a_kept_app_that_is_not_what_was_approved_is_compared_with_nothing(kit):
    kit.keep(read_bundle(OTHER, "it"))
    kit.approve(DIGEST, "fedbreast 1.0")
    (kit.folder / "approved" / f"{digest_of(OTHER)}.zip").rename(kit.folder / "approved" / f"{DIGEST}.zip")
    assert refused(kit, Fab(flowers(OTHER), OTHER, {})) == "it is not approved"


@pytest.mark.parametrize(
    "place", ["filelock.py", "client/__pycache__/app.cpython-311.pyc", "client/app.cpython-311-x86_64-linux-gnu.so"]
)
def test_a_bundle_with_code_that_is_no_source_gets_none_whatever_is_approved(kit, place):
    content = bundled(more={place: "x = 1"})
    for digest in (DIGEST, flowers(content)):
        kit.approve(digest, "fedbreast 1.0")
    assert place in refused(kit, Fab(flowers(content), content, {}), named=flowers(content), fab_hash=flowers(content))


def test_a_withdrawn_app_gets_none(kit):
    kit.approve(DIGEST, "fedbreast 1.0")
    kit.withdraw(DIGEST[:8])
    assert refused(kit) == "it is not approved"


def test_a_bundle_under_an_approved_name_is_known_by_its_content(kit):
    kit.approve(DIGEST, "fedbreast 1.0")
    fab, line = passed(kit, Fab(NAMED, OTHER, {}))
    assert not fab.verifications
    assert line["app"] == digest_of(OTHER)


def test_an_approved_bundle_under_another_name_gets_none(kit):
    kit.approve(DIGEST, "fedbreast 1.0")
    assert "another hash" in refused(kit, Fab("f" * 64, CONTENT, {}))


def test_an_approved_bundle_for_a_run_of_another_hash_gets_none(kit):
    # Both are approved: the run names one, what is delivered is the other, whole and under its own name.
    for content in (CONTENT, OTHER):
        kit.approve(digest_of(content), "fedbreast 1.0")
    assert passed(kit)[0].verifications
    assert "another hash" in refused(kit, Fab(flowers(OTHER), OTHER, {}))
    assert "another run" in refused(kit, fab_hash=flowers(OTHER))
    assert "another run" in refused(kit, run_id=8)
    assert "another run" in refused(kit, asked=False)


def test_a_licence_that_the_server_sends_along_counts_nothing(kit):
    assert refused(kit, Fab(NAMED, CONTENT, {"valid_license": "1", "key": {"signature": "x"}})) == "it is not approved"


@pytest.mark.parametrize(
    "version",
    ["0.1.0.ab12cd34/../../../../../tmp/evil", "../../evil", "0.1.0/", "0.1.1", "", "0.1.0\n", "/tmp/evil", "0.1.0 "],  # noqa: S108
)
def test_a_version_that_is_not_the_approved_bundles_gets_no_licence(kit, version):
    kit.approve(DIGEST, "fedbreast 0.1.0")
    assert passed(kit)[0].verifications
    assert refused(kit, fab_version=version) == "the server names another version"


def test_such_a_version_would_lead_flower_out_of_its_own_folder(kit, tmp_path, monkeypatch):
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "home"))
    honest = get_project_dir(APP, VERSION, NAMED).resolve()
    assert honest.is_relative_to((tmp_path / "home").resolve())
    evil = get_project_dir(APP, "0.1.0.ab/../../../evil", NAMED).resolve()
    assert not evil.is_relative_to((tmp_path / "home").resolve())


def test_a_run_of_another_apps_name_gets_no_licence(kit):
    kit.approve(DIGEST, "fedbreast 0.1.0")
    assert refused(kit, fab_id="fedbreast/other") == "the server names another app"


def test_a_run_of_agents_gets_no_licence(kit):
    # Flower would set a task that our starter never asks for, and wait for its answer.
    kit.approve(DIGEST, "fedbreast 0.1.0")
    assert "agent" in refused(kit, primary_task_type=TaskType.AGENT_APP)


@pytest.mark.parametrize(
    "text", [b"[[app]]\nsha256 = 'x'", b"app = 3", b"[[app]\n", b"[[app]]\n", b"\xff", b"apps = []"]
)
def test_with_a_damaged_list_nothing_runs(kit, text):
    kit.approve(DIGEST, "fedbreast 1.0")
    (kit.folder / APPROVED_FILE).write_bytes(text)
    assert "damaged" in refused(kit)
