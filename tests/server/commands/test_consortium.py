"""The coordinator's commands: what they print, and their exit codes."""

import re
import shutil
import sys
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from client import commands
from server.commands import cli, consortium
from server.deployment.provisioning.members import revoke
from shared.errors import ConfigError
from tests.hospitals import join, make_consortium_with_hospitals

TOML = """name = "toy"
[server]
address = "127.0.0.1"
[certificates]
warn_days = 30
[[sites]]
name = "centre-a"
"""
MOMENTS = {
    "before-midnight": datetime(2027, 3, 9, 23, 59, 59, tzinfo=UTC),
    "leap-day": datetime(2028, 2, 29, 12, tzinfo=UTC),
    "end-of-year": datetime(2026, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
}


class Clock(datetime):
    """The clock that the commands read; it stands unless a test moves it on."""

    moment = MOMENTS["before-midnight"]

    @classmethod
    def now(cls, tz=None):
        return cls.moment.astimezone(tz)


@pytest.fixture(autouse=True)
def now(request, monkeypatch):
    """The commands' moment, whatever the day is."""
    monkeypatch.setattr(Clock, "moment", getattr(request, "param", MOMENTS["before-midnight"]))
    for module in (consortium, commands):
        monkeypatch.setattr(module, "datetime", Clock)
    return Clock.moment


at_every_moment = pytest.mark.parametrize("now", MOMENTS.values(), ids=MOMENTS, indirect=True)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "toy.toml"
    path.write_text(TOML)
    return path


def call(*arguments, typed=""):
    return CliRunner().invoke(cli.app, [str(item) for item in arguments], input=typed)


@pytest.mark.parametrize("command", ["provision", "admit", "fingerprint", "rotate", "revoke", "expiry"])
def test_help_shows_an_example(command):
    done = call(command, "--help")
    assert done.exit_code == 0
    assert f"fedbreast {command}" in done.output


@at_every_moment
def test_provision_tells_what_was_written_until_when_and_what_comes_next(file, tmp_path, now):
    done = call("provision", file, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.exception
    until = now + timedelta(days=365)
    for name in ("server", "observer"):
        assert f"── {name + '/':<12} until {until:%Y-%m-%d}" in done.output
    assert "centre-a/" not in done.output
    assert "authority must stay offline" in done.output
    assert f"the consortium's fingerprint: {fingerprint(tmp_path / 'out/authority/ca.crt')}\n" in done.output
    assert all(f"  {step}. " in done.output for step in (1, 2, 3, 4))
    assert "sends a request (centre-a)" in done.output


def test_a_second_call_ends_with_2_and_one_line(file, tmp_path, monkeypatch, capsys):
    call("provision", file, "--out", tmp_path / "out")
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
    monkeypatch.setattr(sys, "argv", ["fedbreast", "provision", str(file), "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_an_added_hospital_is_the_only_one_that_is_asked_for_a_request(file, tmp_path):
    call("provision", file, "--out", tmp_path / "out")
    file.write_text(TOML + '[[sites]]\nname = "centre-b"\n')
    done = call("provision", file, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.exception
    assert "sends a request (centre-b)" in done.output
    assert "centre-a" not in done.output
    assert "offline" not in done.output


def fingerprint(file):
    done = call("fingerprint", file)
    assert done.exit_code == 0, done.exception
    assert re.fullmatch(r"(\d{5} ){5}\d{5}\n", done.output)
    return done.output.strip()


def test_a_hospital_joins_by_the_commands_and_each_side_types_what_it_was_told(file, tmp_path, now):
    root, kit = tmp_path / "out", tmp_path / "hospital"
    call("provision", file, "--out", root)
    asked = call("join", kit, "--name", "centre-a")
    told = fingerprint(kit / "centre-a.request")
    assert f"the request's fingerprint: {told}\n" in asked.output
    assert "they never leave it" in asked.output
    before = (root / "authority/issued.json").read_bytes()
    wrong = call("admit", root, "centre-a", kit / "centre-a.request", typed="12345 " * 6 + "\n")
    assert "exchanged on its way" in str(wrong.exception)
    silent = call("admit", root, "centre-a", kit / "centre-a.request")  # nothing was typed
    assert (silent.exit_code, told in silent.output) == (1, False)  # what is to be typed is not shown before
    assert (root / "authority/issued.json").read_bytes() == before
    done = call("admit", root, "centre-a", kit / "centre-a.request", typed=f"{told}\n")
    assert done.exit_code == 0, done.exception
    assert f"── centre-a.kit until {now + timedelta(days=365):%Y-%m-%d}" in done.output
    ours = fingerprint(root / "authority/ca.crt")
    assert f"for the hospital by telephone: {ours}\n" in done.output
    assert "12345" in str(call("join", kit, root / "centre-a.kit", typed="12345\n").exception)
    assert not (kit / "node.toml").exists()
    done = call("join", kit, root / "centre-a.kit", typed=f"{ours}\n")
    assert done.exit_code == 0, done.exception
    assert "is the kit of centre-a" in done.output
    assert fingerprint(kit / "certificates/ca.crt") == ours


def test_a_fingerprint_is_of_a_request_or_a_certificate_and_of_nothing_else(file):
    with pytest.raises(ConfigError, match="is neither a request nor a certificate"):
        raise call("fingerprint", file).exception


def test_rotate_and_revoke_say_which_folders_to_hand_out_again(file, tmp_path, now):
    call("provision", file, "--out", tmp_path / "out")
    join(tmp_path / "out", "centre-a", now)
    done = call("rotate", tmp_path / "out", "observer")
    assert (done.exit_code, "observer/" in done.output, "server/" in done.output) == (0, True, True)
    assert "makes its own keys: call `fedbreast join` there" in str(
        call("rotate", tmp_path / "out", "centre-a").exception
    )
    done = call("revoke", tmp_path / "out", "centre-a")
    assert (done.exit_code, "centre-a/" in done.output, "server/" in done.output) == (0, False, True)
    assert isinstance(call("revoke", tmp_path / "out", "centre-a").exception, ConfigError)


@at_every_moment
@pytest.mark.parametrize(
    ("age", "code", "state"), [(0, 0, "good"), (334, 0, "good"), (336, 3, "renew"), (366, 3, "EXPIRED")]
)
def test_expiry_ends_with_3_when_a_certificate_ends_soon_or_has_ended(
    file, tmp_path, monkeypatch, now, age, code, state
):
    make_consortium_with_hospitals(file, tmp_path / "out", now - timedelta(days=age))
    monkeypatch.setattr(Clock, "moment", now + timedelta(seconds=2))  # before midnight that is the next day
    for folder in ("out", "out/server", "out/centre-a", "out/observer"):
        done = call("expiry", tmp_path / folder)
        assert (done.exit_code, state in done.output) == (code, True), folder
        assert re.search(rf" {364 - age} .*{state}", done.output)


def test_a_revoked_certificate_no_longer_warns(file, tmp_path, now):
    file.write_text(
        TOML.replace("warn_days = 30", "warn_days = 30\nvalid_days = 10") + '[[sites]]\nname = "centre-b"\n'
    )
    make_consortium_with_hospitals(file, tmp_path / "out", now)
    assert "centre-a" in call("expiry", tmp_path / "out").output
    revoke(tmp_path / "out", "centre-a", now)
    assert "centre-a" not in call("expiry", tmp_path / "out").output


def test_the_servers_kit_knows_its_own_days_of_warning(file, tmp_path, now):
    file.write_text(TOML.replace("warn_days = 30", "warn_days = 5\nvalid_days = 10"))
    make_consortium_with_hospitals(file, tmp_path / "out", now)
    assert call("expiry", tmp_path / "out/server").exit_code == 0
    assert call("expiry", tmp_path / "out").exit_code == 0
    shutil.rmtree(tmp_path / "out/server")
    assert call("expiry", tmp_path / "out/centre-a").exit_code == 3


def test_a_folder_without_certificates_is_refused(tmp_path):
    done = call("expiry", tmp_path)
    assert isinstance(done.exception, ConfigError)
    assert "no certificate" in str(done.exception)
