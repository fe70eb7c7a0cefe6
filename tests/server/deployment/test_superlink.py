"""A real SuperLink behind a real nginx, and real nodes: who is refused, and what the hospital is told."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import tomli_w
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.proto import control_pb2, fleet_pb2, heartbeat_pb2, node_pb2

from client.node.site_kit import SiteKit
from client.node.supervisor import _reason
from server.deployment import flower_cli
from server.deployment import superlink as superlinks
from server.deployment.flower_cli import call as command
from server.deployment.flower_cli import flwr
from server.deployment.nginx import run_nginx
from server.deployment.provisioning.certificate_authority import node_public
from server.deployment.superlink import CONNECTION, register, register_all, unregister
from shared.errors import RunError
from shared.runtime.audit_log import read
from shared.runtime.children import free_ports
from shared.runtime.flower_home import launch_environment
from shared.runtime.processes import MARK, end_processes
from tests.server.deployment.stand import (
    PULL,
    ROOT,
    call,
    connection,
    make_consortium,
    node,
    post,
    signed,
    small_app,
    trusting,
)

pytestmark = pytest.mark.slow
SITES = ("centre-a", "centre-b", "centre-c", "centre-d")
ACTIVATE, LIST, START = "/v1/fleet/activate-node", "/v1/control/list-runs", "/v1/control/start-run"
CONNECTED, ENDS_WITHIN_S = "SuperNode ID", 30.0


def until(met, wait_s=ENDS_WITHIN_S, what="it did not happen"):
    deadline = time.monotonic() + wait_s
    while not met():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@contextmanager
def connected(served, name, log, kit=None):
    with node(served.consortium, name, log, kit) as process:
        until(lambda: CONNECTED in log.read_text() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield process


def asked(served, name, number=None):
    """A body with which a node asks for messages."""
    return fleet_pb2.PullMessagesRequest(node=node_pb2.Node(node_id=number or served.numbers[name])).SerializeToString()


def activation(kit):
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

    key = load_ssh_private_key(kit.node_key.read_bytes(), None).public_key()
    public = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return fleet_pb2.ActivateNodeRequest(public_key=public, heartbeat_interval=30.0).SerializeToString()


def runs(served):
    """What the SuperLink says of its runs, asked on loopback."""
    return flwr(["flwr", "list", CONNECTION], served.environment)


def test_a_sites_certificate_cannot_start_or_list_a_run(served):
    site = served.consortium.site("centre-a")
    start = control_pb2.StartRunRequest(federation="@none/default").SerializeToString()
    for path, body in ((LIST, control_pb2.ListRunsRequest().SerializeToString()), (START, start)):
        assert call(served.consortium, "centre-a", path, body)[0] == 403
        assert call(served.consortium, "centre-a", path, body, context=trusting(served.consortium))[0] == 401
    # The control: the same bytes are understood where only the server itself can send them.
    with connection(served.consortium.kit.server.superlink_port, trusting(served.consortium)) as inside:
        status, answer = post(inside, LIST, signed(site), control_pb2.ListRunsRequest().SerializeToString())
    assert (status, len(control_pb2.ListRunsResponse.FromString(answer).run_dict)) == (200, 0)
    assert runs(served).get("runs") == []


def test_flowers_own_command_line_cannot_reach_the_server_from_a_hospital(served, tmp_path):
    app = small_app(tmp_path, "tiny")
    (app / "tiny.py").write_text("from flwr.serverapp import ServerApp\n\napp = ServerApp()\n")
    home = tmp_path / "home"
    home.mkdir()
    outside = {
        "address": f"127.0.0.1:{served.consortium.port}",
        "root-certificates": str(served.consortium.site("centre-a").authority),
    }
    (home / "config.toml").write_text(tomli_w.dumps({"superlink": {"default": "there", "there": outside}}))
    environment = launch_environment(home)
    for words in (["flwr", "list", "there"], ["flwr", "run", str(app), "there"]):
        done = command(words, environment, timeout=60)
        assert done.returncode != 0, words
        # Flower's words for a 401.
        assert "Authentication failed" in done.stdout + done.stderr, done.stdout + done.stderr
    assert runs(served).get("runs") == []


def test_the_superlink_listens_on_this_machine_only(served):
    port = f"{served.consortium.kit.server.superlink_port:04X}"
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()]
    places = {words[1].partition(":")[0] for words in lines if words[1].endswith(":" + port) and words[3] == "0A"}
    assert places == {"0100007F"}  # 127.0.0.1, little end first


def test_a_captured_header_is_of_no_use_without_the_sites_certificate(served):
    captured = signed(served.consortium.site("centre-d"))
    node_d = node_pb2.Node(node_id=served.numbers["centre-d"])
    beat = heartbeat_pb2.SendNodeHeartbeatRequest(node=node_d, heartbeat_interval=30.0).SerializeToString()
    # The header covers no body, and holds for five minutes: what it came with, and what it never came with.
    for path, body in ((PULL, asked(served, "centre-d")), ("/v1/fleet/send-node-heartbeat", beat)):
        again = {"path": path, "body": body, "headers": captured}
        assert call(served.consortium, "centre-b", **again)[0] == 401
        assert call(served.consortium, "centre-d", context=trusting(served.consortium), **again)[0] == 401
        # What stays open, and why the certificate is asked for.
        assert call(served.consortium, "centre-d", **again)[0] == 200


@pytest.mark.parametrize(("age_s", "status"), [(310, 401), (300, 200), (4, 200), (-4, 200), (-10, 401)])
def test_a_clock_may_be_a_little_off_and_no_more(served, age_s, status):
    kit = served.consortium.site("centre-a")
    answer = call(served.consortium, "centre-a", body=asked(served, "centre-a"), headers=signed(kit, age_s))
    assert answer[0] == status


def test_a_node_with_a_wrong_clock_ends_and_says_so(served, tmp_path, monkeypatch):
    ahead = tmp_path / "ahead"
    ahead.mkdir()
    (ahead / "sitecustomize.py").write_text(
        "import datetime, time\n"
        "import flwr.supercore.date as date\n"
        "date.now = lambda: datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=-310)\n"
        "real = time.time\n"
        "time.time = lambda: real() - 310\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(ahead))
    log = tmp_path / "log"
    with node(served.consortium, "centre-c", log) as process:
        until(lambda: process.poll() is not None)
    assert "clock" in _reason(log)


def test_node_a_cannot_speak_for_node_b(served):
    good = call(served.consortium, "centre-a", body=asked(served, "centre-a"))
    assert good[0] == 200
    assert call(served.consortium, "centre-a", body=asked(served, "centre-b"))[0] == 401
    body = activation(served.consortium.site("centre-b"))
    assert call(served.consortium, "centre-a", ACTIVATE, body)[0] == 401


def test_a_second_node_with_the_same_key_is_refused_and_the_first_stays(served, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    with connected(served, "centre-a", first) as process:
        with node(served.consortium, "centre-a", second) as other:
            until(lambda: other.poll() is not None)
        assert "another node is connected with this site's key" in _reason(second)
        assert CONNECTED not in second.read_text()
        time.sleep(1)
        assert process.poll() is None
        assert "refuses" not in first.read_text()


@pytest.mark.parametrize(
    ("file", "source", "why"),
    [
        ("certificates/ca.crt", "certificates/ca.crt", "the server's certificate is not the consortium's"),
        (
            "certificates/site.crt keys/site.key",
            "certificates/site.crt keys/site.key",
            "refuses this site's certificate",
        ),
        ("keys/node.key", "keys/node.key", "not the one of its node key"),
    ],
)
def test_a_kit_with_a_foreign_file_is_refused_and_the_hospital_is_told_why(served, tmp_path, file, source, why):
    (tmp_path / "other").mkdir()
    other = make_consortium(tmp_path / "other", ("centre-c",))
    kit = tmp_path / "kit"
    shutil.copytree(served.consortium.root / "centre-c", kit)
    for name in file.split():
        shutil.copy(other.root / "centre-c" / name, kit / name)
    log = tmp_path / "log"
    with node(served.consortium, "centre-c", log, SiteKit(kit)) as process:
        until(lambda: process.poll() is not None)
    assert why in _reason(log)
    assert CONNECTED not in log.read_text()


def test_a_node_whose_server_is_absent_keeps_asking_and_says_once_why(tmp_path, nginx):
    consortium = make_consortium(tmp_path, ("centre-a",))
    audit = consortium.site("centre-a").state / "audit.jsonl"
    log = tmp_path / "log"

    def events():
        return [line for line in read(audit) if line["event"].startswith("server-")] if audit.exists() else []

    with node(consortium, "centre-a", log) as process:
        until(lambda: log.read_text().count("retrying") >= 2)
        assert [(item["event"], "refused" in item["why"]) for item in events()] == [("server-unreachable", True)]
        with run_nginx(consortium.kit, os.environ, "127.0.0.1"):  # and now it is nginx that says so
            time.sleep(0.1)
            assert process.poll() is None
    assert len(events()) == 1


# Forks one node after the other, so that each need not import Flower anew.
FORKS = """
import json, os, sys
from importlib import import_module
from pathlib import Path
for name in ("flwr.supernode.start_client_internal", "flwr.supernode.cli.flower_supernode", "flwr.supernode.main"):
    import_module(name)
from client.node.site_kit import SiteKit
from client.node.supernode import run_node
for line in sys.stdin:
    folder, port, log = json.loads(line)
    child = os.fork()
    if child == 0:
        for stream in (1, 2):
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), stream)
        run_node(SiteKit(Path(folder)), port)
    print(child, flush=True)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""


def test_a_node_stopped_and_started_twenty_times_rejoins_each_time(served, tmp_path):
    kit, seen = served.consortium.site("centre-b"), []
    environment = launch_environment(tmp_path)
    forks = subprocess.Popen(
        [sys.executable, "-c", FORKS], cwd=ROOT, env=environment, text=True, start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        for turn in range(20):
            log = tmp_path / f"{turn}.log"
            log.touch()
            forks.stdin.write(json.dumps([str(kit.folder), *free_ports(1), str(log)]) + "\n")
            forks.stdin.flush()
            child = int(forks.stdout.readline())
            until(lambda log=log: CONNECTED in log.read_text() or "refuses" in log.read_text())
            seen += [line.split()[-1] for line in log.read_text().splitlines() if CONNECTED in line]
            os.kill(child, signal.SIGTERM)
            assert forks.stdout.readline() == "ended\n"
    finally:
        end_processes(environment[MARK])
        forks.communicate()
    assert seen == [str(served.numbers["centre-b"])] * 20


def test_a_site_that_was_removed_is_refused_at_its_next_call(served, tmp_path):
    log = tmp_path / "log"
    with connected(served, "centre-c", log) as process:
        number = str(served.numbers.pop("centre-c"))
        unregister(number, served.environment)
        until(lambda: process.poll() is not None)
    assert "removed" in _reason(log)
    # To say so again is no error, and its key is of no more use: Flower keeps it.
    unregister(number, served.environment)
    (site,) = [item for item in served.consortium.kit.sites() if item.name == "centre-c"]
    with pytest.raises(RunError, match="fedbreast join"):
        register(site, served.environment)


def test_sites_are_registered_in_one_process_and_one_that_is_refused_stops_no_other(served, monkeypatch):
    """Each is there already but one; of that a second key comes first, which is none."""
    sites = served.consortium.kit.sites()
    (gone,) = [site for site in sites if site.name == "centre-d"]
    new = replace(gone, line=node_public(ec.generate_private_key(ec.SECP384R1()).public_key()))
    started = []
    real = flower_cli.subprocess.run
    monkeypatch.setattr(
        flower_cli.subprocess, "run", lambda command, **more: started.append(command) or real(command, **more)
    )
    broken, first, last = register_all([replace(gone, line=b"no key"), sites[0], new], served.environment)
    assert len(started) == 1
    assert isinstance(broken, RunError)
    assert "centre-d" in str(broken)
    assert "fedbreast join" in str(first)
    assert last.isdigit()
    unregister(last, served.environment)


def test_a_node_that_stays_registered_is_no_success(served, monkeypatch):
    number = str(served.numbers["centre-d"])
    real = superlinks.flwr

    def refusing(command, environment):
        refused = {"success": False, "error-message": "Internal Server Error"}
        return refused if "unregister" in command else real(command, environment)

    monkeypatch.setattr(superlinks, "flwr", refusing)
    with pytest.raises(RunError, match=f"{number}: Internal Server Error"):
        unregister(number, served.environment)
    unregister("12345", served.environment)  # Flower's own list has no such node
    monkeypatch.setattr(superlinks, "flwr", lambda *_: {"error-message": "unavailable"})
    with pytest.raises(RunError, match="unavailable"):
        unregister("12345", served.environment)
