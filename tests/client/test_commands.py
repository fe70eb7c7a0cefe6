"""The hospital's commands: what they print, what they change, and their exit codes."""

import os
import shlex

import pytest
import tomli_w
from typer.testing import CliRunner

from client.node.site_kit import SiteKit
from server.commands import cli
from shared.config.run_config import load_config
from shared.errors import ConfigError
from shared.runtime.app_bundle import open_bundle
from shared.runtime.audit_log import read
from tests.calling import told

SETTINGS = {"server": {"address": "127.0.0.1", "port": 9443}, "site": {"name": "centre-a"}}
PYPROJECT = """[project]
name = "fedbreast"
version = "1.2.3"
[tool.flwr.app]
publisher = "fedbreast"
[tool.flwr.app.components]
serverapp = "server.app:app"
clientapp = "client.app:app"
"""


@pytest.fixture
def kit(tmp_path):
    (tmp_path / "centre-a").mkdir()
    (tmp_path / "centre-a" / "node.toml").write_text(tomli_w.dumps(SETTINGS))
    return tmp_path / "centre-a"


@pytest.fixture
def app(tmp_path):
    """A checkout; importing its code would end the test."""
    for name, text in {
        "pyproject.toml": PYPROJECT,
        "server/app.py": "from flwr.serverapp import ServerApp\napp = ServerApp()\nraise SystemExit('imported')\n",
        "client/app.py": "from flwr.clientapp import ClientApp\napp = ClientApp()\nraise SystemExit('imported')\n",
    }.items():
        (tmp_path / "app" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "app" / name).write_text(text)
    return tmp_path / "app"


def call(*arguments):
    return CliRunner().invoke(cli.app, [str(item) for item in arguments])


def events(kit):
    return [line["event"] for line in read(kit / "state" / "audit.jsonl")]


@pytest.mark.parametrize("command", ["join", "approve", "serve-site"])
def test_help_shows_an_example(command):
    done = call(command, "--help")
    assert done.exit_code == 0
    assert f"fedbreast {command}" in done.output


def test_approving_prints_the_hash_that_is_then_listed_and_logged(kit, app):
    digest = open_bundle(app).sha256
    done = call("approve", kit, app)
    assert done.exit_code == 0, done.exception
    assert f"content hash {digest}" in done.output
    assert "fedbreast 1.2.3" in done.output
    assert [item.sha256 for item in SiteKit(kit).approved()] == [digest]
    listed = call("approve", kit, "--list").output
    assert digest in listed
    assert "fedbreast 1.2.3" in listed
    (line,) = read(kit / "state" / "audit.jsonl")
    assert (line["event"], line["app"], line["site"]) == ("app-approved", digest, "centre-a")


# Flower's bundling calls an old name of another package.
@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")
def test_a_bundle_file_has_the_hash_of_its_own_bytes(kit, app, tmp_path):
    from flwr.cli.build import build_fab_from_disk

    from shared.runtime.app_bundle import STAGE, read_bundle, stage_app

    content = build_fab_from_disk(stage_app(app, tmp_path / STAGE))
    (tmp_path / "app.fab").write_bytes(content)
    digest = read_bundle(content, "it").sha256
    assert f"content hash {digest}" in call("approve", kit, tmp_path / "app.fab").output
    assert digest == open_bundle(app).sha256


def test_one_changed_byte_is_another_hash(kit, app):
    call("approve", kit, app)
    (app / "client" / "app.py").write_bytes((app / "client" / "app.py").read_bytes().replace(b"imported", b"Imported"))
    call("approve", kit, app)
    first, second = SiteKit(kit).approved()
    assert first.sha256 != second.sha256


def test_approving_shows_the_files_and_then_what_differs_from_the_app_approved_before(kit, app):
    first = call("approve", kit, app).output
    assert "its files: client 1, pyproject.toml 1, server 1" in first
    (app / "client" / "app.py").write_text("x = 1\n")
    (app / "shared").mkdir()
    (app / "shared" / "new.py").write_text("y = 2\n")
    (app / "server" / "app.py").unlink()
    second = call("approve", kit, app).output
    assert "3 of 3 files differ" in second
    for line in ("changed: client/app.py", "gone: server/app.py", "new: shared/new.py"):
        assert line in second


def test_looking_shows_the_lines_and_approves_nothing(kit, app):
    files = call("approve", kit, app, "--look").output
    assert "  client/app.py" in files
    call("approve", kit, app)
    (app / "client" / "app.py").write_text("x = 1\x1b[2J\n")
    shown = call("approve", kit, app, "--look").output
    assert "    -raise SystemExit('imported')" in shown
    assert "    +x = 1\\x1b[2J" in shown
    assert open_bundle(app).sha256 in shown
    assert len(SiteKit(kit).approved()) == 1
    assert events(kit) == ["app-approved"]


@pytest.mark.parametrize("place", ["filelock.py", "client/app.cpython-311-x86_64-linux-gnu.so"])
def test_a_checkout_with_code_beside_its_source_is_not_approved(kit, app, place, monkeypatch, capsys):
    (app / place).write_bytes(b"")
    code, said = told(monkeypatch, capsys, "approve", kit, app)
    assert (code, place in said) == (2, True)
    assert SiteKit(kit).approved() == ()


def test_without_a_name_this_checkout_is_approved(kit, app, monkeypatch):
    monkeypatch.setenv("FEDBREAST_ROOT", str(app))
    assert open_bundle(app).sha256 in call("approve", kit).output


def test_withdrawing_takes_it_off_the_list_and_logs_it(kit, app):
    call("approve", kit, app)
    digest = SiteKit(kit).approved()[0].sha256
    done = call("approve", kit, "--withdraw", digest[:6])
    assert (done.exit_code, digest in done.output) == (0, True)
    assert SiteKit(kit).approved() == ()
    assert "no app is approved" in call("approve", kit, "--list").output
    assert events(kit) == ["app-approved", "approval-withdrawn"]


def test_withdrawing_what_is_not_approved_changes_nothing(kit, app):
    call("approve", kit, app)
    done = call("approve", kit, "--withdraw", "zz")
    assert isinstance(done.exception, ConfigError)
    assert len(SiteKit(kit).approved()) == 1
    assert events(kit) == ["app-approved"]


def test_wrong_folders_and_files_are_one_line_and_exit_2(kit, app, tmp_path, monkeypatch, capsys):
    (tmp_path / "text.fab").write_text("no bundle")
    for arguments, words in (
        (("approve", app, app), "no site's kit"),
        (("approve", tmp_path / "nowhere"), "no site's kit"),
        (("approve", kit, kit), "neither an app's bundle nor a checkout"),
        (("approve", kit, tmp_path / "nowhere"), "neither an app's bundle nor a checkout"),
        (("approve", kit, tmp_path / "text.fab"), "not an app's bundle"),
        (("serve-site", app), "no site's kit"),
        (("serve-site", kit), "is missing"),
    ):
        code, line = told(monkeypatch, capsys, *arguments)
        assert (code, words in line) == (2, True), line
        assert len([text for text in line.splitlines() if text.startswith("error")]) == 1
    assert not (kit / "approved.toml").exists()


def test_a_command_that_is_proposed_can_be_copied_where_the_path_has_a_blank(kit, tmp_path, monkeypatch, capsys):
    kept = kit.rename(tmp_path / "my kit")
    _, said = told(monkeypatch, capsys, "serve-site", kept)
    proposed = " ".join(said.split()).partition("nothing will run: fedbreast ")[2]
    assert shlex.split(proposed)[:2] == ["approve", str(kept)]


def test_the_list_can_be_read_by_the_nodes_account_also_where_an_administrator_approved(kit, app):
    before = os.umask(0o077)  # as the command line sets it
    try:
        CliRunner().invoke(cli.app, ["approve", str(kit), str(app)], catch_exceptions=False)
    finally:
        os.umask(before)
    assert (kit / "approved.toml").stat().st_mode & 0o777 == 0o644


def test_a_configuration_is_looked_at_approved_compared_and_withdrawn(kit, tmp_path):
    def written(**sections):
        run = {"name": "first", "data": {"root": "d", "sites": ["centre-a", "centre-b"]}, **sections}
        (tmp_path / "run.toml").write_text(tomli_w.dumps(run))
        return load_config(tmp_path / "run.toml").hash()

    first = written()
    looked = call("approve", kit, "--configuration", tmp_path / "run.toml", "--look")
    assert looked.output.startswith("reading ")  # loading all tasks takes seconds
    assert f"hash {first}; nothing is approved by looking" in looked.output
    assert "no app is approved" in call("approve", kit, "--list").output
    done = call("approve", kit, "--configuration", tmp_path / "run.toml")
    assert (done.exit_code, first in done.output, "against" in done.output) == (0, True, False)
    second = written(training={"steps_per_round": 21}, federation={"rounds": 2000})
    again = call("approve", kit, "--configuration", tmp_path / "run.toml").output
    assert "against 'first'" in again
    assert "training.steps_per_round: 20 -> 21" in again
    assert "REFUSED as the policy stands: the run has 2000 rounds" in again
    # Of phantoms nobody needs floors, and what a run asks of them is not said to be refused.
    written(training={"steps_per_round": 1})
    assert "REFUSED" in call("approve", kit, "--configuration", tmp_path / "run.toml", "--look").output
    (kit / "data").mkdir()
    (kit / "data" / "site.toml").write_text(
        '[site]\nname = "centre-a"\npseudonym_key = "' + "ab" * 16 + '"\nkind = "phantom"\n'
    )
    (kit / "data" / "cases.csv").touch()
    assert "REFUSED" not in call("approve", kit, "--configuration", tmp_path / "run.toml", "--look").output
    call("approve", kit, "--withdraw", second[:10])
    listed = call("approve", kit, "--list").output
    assert first in listed
    assert second not in listed
    assert events(kit) == ["configuration-approved", "configuration-approved", "configuration-withdrawn"]
