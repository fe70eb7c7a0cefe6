"""`fedbreast serve`: what it refuses to start with, what it looks after, and that nothing of it stays (scenario 16)."""

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from server.deployment.flower_cli import flwr
from server.deployment.nginx import run_nginx
from server.deployment.provisioning.members import revoke, rotate
from server.deployment.server_kit import ServerKit
from server.deployment.superlink import CONNECTION, superlink, write_connection
from shared.errors import RunError
from shared.runtime.audit_log import read
from shared.runtime.children import LARGEST_LOG
from shared.runtime.flower_home import BINARIES, launch_environment
from shared.runtime.processes import _all_processes, _runs
from tests.calling import told
from tests.hospitals import join, make_consortium_with_hospitals
from tests.server.deployment.stand import call, make_consortium, node


def spoil_mode(consortium):
    (consortium.root / "server" / "keys" / "server.key").chmod(0o640)


def spoil(name):
    return lambda consortium: (consortium.root / "server" / name).unlink()


def damage(name):
    return lambda consortium: (consortium.root / "server" / name).write_text("damaged")


def send_everybody_away(consortium):
    for name in ("centre-a", "centre-b"):
        revoke(consortium.root, name, datetime.now(UTC))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (spoil_mode, ["server.key", "read by others", "chmod 600"]),
        (spoil("keys/server.key"), ["server.key", "missing"]),
        (spoil("certificates/server.crt"), ["server.crt", "missing"]),
        (spoil("certificates/ca.crt"), ["ca.crt", "missing"]),
        (spoil("certificates/crl.pem"), ["crl.pem", "missing"]),
        (spoil("server.toml"), ["no server's kit", "server.toml"]),
        (spoil("sites/centre-a.crt"), ["centre-a", "missing or damaged"]),
        (damage("server.toml"), ["server.toml", "from your copy"]),
        (damage("certificates/server.crt"), ["server.crt", "damaged"]),
        (damage("keys/server.key"), ["server.key", "damaged"]),
        (damage("sites/centre-b.pub"), ["centre-b", "missing or damaged"]),
        (send_everybody_away, ["lists no site"]),
    ],
)
def test_a_kit_that_cannot_be_used_is_one_line_and_exit_2(tmp_path, monkeypatch, capsys, change, words):
    consortium = make_consortium(tmp_path)
    change(consortium)
    code, line = told(monkeypatch, capsys, "serve", consortium.root / "server", "--host", "127.0.0.1")
    assert (code, line.count("\n")) == (2, 1), line
    assert all(word in line for word in words), line


def test_an_expired_certificate_is_one_line_and_exit_2(tmp_path, monkeypatch, capsys):
    (tmp_path / "toy.toml").write_text('name = "toy"\n[server]\naddress = "127.0.0.1"\n[[sites]]\nname = "centre-a"\n')
    now = datetime.now(UTC)
    make_consortium_with_hospitals(tmp_path / "toy.toml", tmp_path / "out", now - timedelta(days=366))
    code, line = told(monkeypatch, capsys, "serve", tmp_path / "out" / "server")
    assert (code, line.count("\n")) == (2, 1)
    assert f"expired on {now - timedelta(days=1):%Y-%m-%d}" in line
    assert "rotate" in line


@pytest.mark.parametrize("folder", ["out", "out/centre-a", "out/observer", "out/authority", "nowhere"])
def test_a_folder_of_something_else_is_one_line_and_exit_2(tmp_path, monkeypatch, capsys, folder):
    make_consortium(tmp_path)
    code, line = told(monkeypatch, capsys, "serve", tmp_path / folder)
    assert (code, line.count("\n")) == (2, 1)
    assert "no server's kit" in line


@pytest.mark.parametrize("which", ["port", "status_port", "superlink_port"])
def test_a_port_in_use_is_one_line_that_names_it(tmp_path, monkeypatch, capsys, nginx, which):
    consortium = make_consortium(tmp_path)
    monkeypatch.setenv("FEDBREAST_ROOT", str(tmp_path))
    port = getattr(consortium.kit.server, which)
    with socket.create_server(("127.0.0.1", port)):
        code, line = told(monkeypatch, capsys, "serve", consortium.root / "server", "--host", "127.0.0.1")
    assert (code, line.count("\n")) == (RunError.exit_code, 1), line
    assert str(port) in line
    # And nothing of the attempt stays.
    for other in ("port", "status_port", "superlink_port"):
        socket.create_server(("127.0.0.1", getattr(consortium.kit.server, other))).close()


def test_without_nginx_one_line_says_what_to_install(tmp_path, monkeypatch):
    consortium = make_consortium(tmp_path)
    monkeypatch.setattr("server.deployment.nginx.shutil.which", lambda *_, **__: None)
    with pytest.raises(RunError, match="nginx is not installed"), run_nginx(consortium.kit, {}, "127.0.0.1"):
        pass


def test_a_faulty_configuration_of_nginx_is_said_in_its_own_words(tmp_path, nginx):
    consortium = make_consortium(tmp_path)
    (consortium.kit.certificate[1]).write_text("no key")
    with pytest.raises(RunError, match=r"(?s)nginx did not start.*server\.key"), run_nginx(consortium.kit, os.environ):
        pass


def test_a_superlink_does_not_take_a_strangers_port_for_its_own(tmp_path):
    consortium = make_consortium(tmp_path)
    consortium.kit.state.mkdir(exist_ok=True)
    with (
        socket.create_server(("127.0.0.1", consortium.kit.server.superlink_port)),
        pytest.raises(RunError, match=str(consortium.kit.server.superlink_port)),
        superlink(consortium.kit, tmp_path, launch_environment(tmp_path)),
    ):
        pass


def family(process):
    """A process and all its descendants."""
    everyone, found = list(_all_processes("")), {process.pid}
    while more := {item.pid for item in everyone if item.parent in found} - found:
        found |= more
    return {item for item in everyone if item.pid in found}


def running(process):
    return [item for item in process if _runs(item)]


def until(met, wait_s, what):
    deadline = time.monotonic() + wait_s
    while not met():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@contextmanager
def serving(folder, *, apart=False):
    """`fedbreast serve` as a process, its sites registered; `apart`: with a copy of the kit, as on its own machine."""
    consortium = make_consortium(folder)
    kit = consortium.kit
    if apart:
        shutil.copytree(kit.folder, folder / "machine")
        kit = ServerKit(folder / "machine")
    log = folder / "serve.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [BINARIES / "fedbreast", "serve", kit.folder, "--host", "127.0.0.1"],
            env=os.environ | {"FEDBREAST_ROOT": str(folder)}, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
            start_new_session=True,
        )  # fmt: skip
    audit = kit.state / "audit.jsonl"

    def events(name=None):
        lines = list(read(audit)) if audit.exists() else []
        return [line for line in lines if name in {None, line["event"]}]

    try:
        until(lambda: events("superlink-ready") or process.poll() is not None, 60, "no SuperLink within a minute")
        assert process.poll() is None, log.read_text()
        yield SimpleNamespace(consortium=consortium, kit=kit, process=process, events=events, log=log)
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(timeout=30)


@pytest.mark.slow
def test_a_second_server_on_one_kit_is_refused_and_the_first_goes_on(tmp_path, nginx):
    with serving(tmp_path) as first:
        second = subprocess.run(
            [BINARIES / "fedbreast", "serve", first.consortium.root / "server", "--host", "127.0.0.1"],
            env=os.environ | {"FEDBREAST_ROOT": str(tmp_path)}, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert second.returncode == RunError.exit_code
        assert "served by another process already" in second.stderr
        assert second.stderr.count("\n") == 1
        assert first.process.poll() is None
        assert call(first.consortium, "centre-a")[0] != 502  # its SuperLink is still behind its nginx
        assert len(first.events("serving-started")) == 1

        # The rest with the same server: Ctrl-C ends it within ten seconds.
        known = family(first.process)
        assert {"nginx", "flower-superlink"} <= names(known)
        began = time.monotonic()
        first.process.send_signal(signal.SIGINT)
        assert first.process.wait(timeout=20) == 130
        assert time.monotonic() - began < 10
        assert not running(known)
        assert first.events()[-1]["event"] == "serving-ended"
        assert "Traceback" not in first.log.read_text()


def names(processes):
    found = set()
    for item in processes:
        words = ""
        with suppress(FileNotFoundError, ProcessLookupError):  # it may end meanwhile
            words = Path(f"/proc/{item.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        found |= {name for name in ("nginx", "flower-superlink", "flower-superexec") if name in words}
    return found


@pytest.mark.slow
def test_a_server_killed_outright_leaves_no_process(tmp_path, nginx):
    with serving(tmp_path) as server:
        known = family(server.process)
        assert {"nginx", "flower-superlink"} <= names(known)
        server.process.kill()
        server.process.wait()
        until(lambda: not running(known), 20, f"still there: {names(running(known))}")
        for name in ("port", "status_port", "superlink_port"):
            socket.create_server(("127.0.0.1", getattr(server.consortium.kit.server, name))).close()


@pytest.mark.slow
def test_a_superlink_that_dies_is_started_again_with_its_sites(tmp_path, nginx):
    with serving(tmp_path) as server:
        (link,) = [item for item in family(server.process) if "flower-superlink" in names([item])]
        os.kill(link.pid, signal.SIGKILL)
        until(lambda: len(server.events("superlink-ready")) == 2, 60, "not started again")
        assert [line["event"] for line in server.events()][-4:] == [
            "superlink-ended", "site-registered", "site-registered", "superlink-ready",
        ]  # fmt: skip
        with node(server.consortium, "centre-a", tmp_path / "node.log"):
            until(lambda: "SuperNode ID" in (tmp_path / "node.log").read_text(), 30, "the site is not known")


@pytest.mark.slow
def test_a_site_revoked_meanwhile_is_out_at_its_next_call_and_the_log_tells_it(tmp_path, nginx):
    with serving(tmp_path) as server:
        consortium, log = server.consortium, tmp_path / "node.log"
        with node(consortium, "centre-a", log) as process:
            until(lambda: "SuperNode ID" in log.read_text(), 30, "it did not connect")
            revoke(consortium.root, "centre-a", datetime.now(UTC))
            until(lambda: process.poll() is not None, 15, "it was not refused")
            assert "the server refuses: 401 door" in log.read_text()
        until(lambda: server.events("site-removed"), 15, "not in the log")
        assert [line["site"] for line in server.events("site-removed")] == ["centre-a"]
        write_connection(consortium.kit, tmp_path / "home")
        environment = launch_environment(tmp_path / "home")
        listed = flwr(["flwr", "supernode", "list", CONNECTION], environment)
        gone = log.read_text().partition("SuperNode ID: ")[2].split()[0]
        assert "nodes" in listed, listed
        known = {item["node-id"]: item["status"] for item in listed["nodes"]}
        assert list(known.values()).count("registered") == 1  # the other site
        assert known.get(gone, "unregistered") == "unregistered"
        assert call(consortium, "centre-a")[0] == 401

        # Admitted again with new keys, without a restart.
        join(consortium.root, "centre-a")
        until(lambda: len(server.events("site-registered")) == 3, 15, "not admitted again")
        with node(consortium, "centre-a", tmp_path / "again.log"):
            until(lambda: "SuperNode ID" in (tmp_path / "again.log").read_text(), 30, "not admitted again")
        assert len(server.events("superlink-ready")) == 1


@pytest.mark.slow
def test_a_kit_copied_file_by_file_under_a_running_server_ends_nothing(tmp_path, nginx):
    with serving(tmp_path, apart=True) as server:
        root, kit = server.consortium.root, server.kit.folder

        def copy(*names):
            for name in names:
                shutil.copy(root / "server" / name, kit / name)

        def told(event, count=1):
            until(lambda: len(server.events(event)) == count or server.process.poll() is not None, 15, event)
            assert server.process.poll() is None, server.log.read_text()
            return server.events(event)[-1]

        # New keys: the certificate first, then for a while half of the key.
        before = (kit / "state" / "nginx" / "nginx.conf").read_bytes()
        join(root, "centre-b")
        copy("certificates/crl.pem", "sites/centre-b.crt")
        until(lambda: (kit / "state" / "nginx" / "nginx.conf").read_bytes() != before, 15, "not loaded")
        assert not server.events("site-removed")
        (kit / "sites" / "centre-b.pub").write_bytes(b"")
        assert told("site-not-read")["site"] == "centre-b"
        copy("sites/centre-b.pub")
        assert told("site-registered", 3)["site"] == "centre-b"
        assert told("site-removed")["site"] == "centre-b"
        log = tmp_path / "node.log"
        with node(server.consortium, "centre-b", log):
            until(lambda: "SuperNode ID" in log.read_text(), 30, "the rotated site is not let in")

        # A key taken away and put back is one that Flower takes no more.
        kept = (kit / "sites" / "centre-a.pub").read_bytes()
        (kit / "sites" / "centre-a.pub").unlink()
        assert told("site-removed", 2)["site"] == "centre-a"
        (kit / "sites" / "centre-a.pub").write_bytes(kept)
        assert "fedbreast join" in told("site-refused")["why"]

        # The server's own new keys, in two steps.
        rotate(root, "server", datetime.now(UTC))
        copy("certificates/server.crt")
        assert "server.key" in told("reload-refused")["why"]
        copy("keys/server.key")
        told("reloaded")

        # And its logs stay short.
        access = kit / "state" / "nginx" / "access.log"
        with access.open("ab") as stream:
            stream.write(bytes(LARGEST_LOG + 1))
        until(lambda: access.stat().st_size < LARGEST_LOG, 15, "not cut")
        assert server.process.poll() is None
        assert len(server.events("superlink-ready")) == 1
