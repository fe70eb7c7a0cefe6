"""A consortium on free ports of this machine, calls as a hospital makes them, and a server that only counts calls."""

import http.client
import json
import ssl
import subprocess
import sys
import threading
import time
from base64 import b64encode
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import tomli_w
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

from client.node.fleet_client import tls_context
from client.node.site_kit import SiteKit
from server.deployment.provisioning.certificate_authority import load_authority, pem
from server.deployment.server_kit import ServerKit
from shared.runtime.children import free_ports
from shared.runtime.flower_home import launch_environment
from shared.runtime.private_keys import private_pem
from shared.runtime.processes import MARK, end_processes
from tests.hospitals import make_consortium_with_hospitals

ROOT = Path(__file__).resolve().parents[3]
PULL = "/v1/fleet/pull-messages"
PROJECT = """[project]
name = "fedbreast"
version = "1.0.0"
[tool.flwr.app]
publisher = "fedbreast"
[tool.flwr.app.components]
serverapp = "{module}:app"
clientapp = "{module}:app"
[tool.flwr.app.config]
"""


@dataclass
class Consortium:
    """Its folder, as `fedbreast provision` and `admit` wrote it; its hospitals' folders lie in it."""

    root: Path

    @property
    def kit(self):
        return ServerKit(self.root / "server")

    @property
    def port(self):
        return self.kit.server.port

    @property
    def authority(self):
        return load_authority(self.root / "authority")

    def site(self, name):
        return SiteKit(self.root / name)


def make_consortium(folder, sites=("centre-a", "centre-b")):
    front, status, inner = free_ports(3)
    server = {"address": "127.0.0.1", "port": front, "status_port": status, "superlink_port": inner}
    wanted = {"name": "toy", "server": server, "sites": [{"name": name} for name in sites]}
    (folder / "toy.toml").write_text(tomli_w.dumps(wanted))
    make_consortium_with_hospitals(folder / "toy.toml", folder / "out")
    return Consortium(folder / "out")


def signed(kit, age_s=0.0):
    """The headers of Flower's node: its public key, a time, and its signature of that time."""
    key = load_ssh_private_key(kit.node_key.read_bytes(), None)
    stamp = (datetime.now(UTC) - timedelta(seconds=age_s)).isoformat()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return {
        "flwr-public-key": b64encode(public).decode(),
        "flwr-timestamp": stamp,
        "flwr-signature": b64encode(key.sign(stamp.encode(), ec.ECDSA(SHA256()))).decode(),
    }


@contextmanager
def connection(port, context):
    """A connection that stays open over several calls."""
    opened = http.client.HTTPSConnection("127.0.0.1", port, context=context, timeout=20)
    try:
        yield opened
    finally:
        opened.close()


def post(opened, path, headers, body=b""):
    """One call, its path sent as it is written here; the answer's status and body."""
    opened.putrequest("POST", path, skip_accept_encoding=True)
    for name, value in {"content-type": "application/protobuf", "content-length": len(body), **headers}.items():
        opened.putheader(name, str(value))
    opened.endheaders(body)
    answer = opened.getresponse()
    return answer.status, answer.read()


def call(consortium, name, path=PULL, body=b"", headers=None, context=None):
    """A single call as a site makes it, with whatever is given instead."""
    kit = consortium.site(name)
    with connection(consortium.port, context or tls_context(kit)) as opened:
        return post(opened, path, signed(kit) if headers is None else headers, body)


def shown(consortium, folder, key, certificate):
    """A client that trusts the consortium and shows this certificate."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "own.key").write_bytes(private_pem(key))
    (folder / "own.crt").write_bytes(pem(certificate))
    context = trusting(consortium)
    context.load_cert_chain(folder / "own.crt", folder / "own.key")
    return context


def trusting(consortium):
    """A client that trusts the consortium and shows nothing."""
    return ssl.create_default_context(cafile=str(consortium.kit.authority))


@dataclass
class Upstream:
    """What stands where the SuperLink would; keeps the path and body of each call, and its headers."""

    calls: list = field(default_factory=list)
    headers: list = field(default_factory=list)


@contextmanager
def upstream(kit):
    seen = Upstream()

    class Counting(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            seen.calls.append((self.path, body))
            seen.headers.append(self.headers)
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        do_GET = do_POST  # noqa: N815 - the library's name

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", kit.server.superlink_port), Counting)
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*kit.certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    try:
        yield seen
    finally:
        server.shutdown()
        server.server_close()


def small_app(folder, module):
    """A project below the folder whose apps are those of one module, which is still to be written there."""
    app = folder / "fedbreast"
    app.mkdir()
    (app / "pyproject.toml").write_text(PROJECT.format(module=module))
    return app


def reached(stand):
    """Calls that came through since the last look."""
    found = stand.calls[:]
    stand.calls.clear()
    stand.headers.clear()
    return found


def until_new_workers(met, wait_s=10.0):
    """nginx takes a signal and answers it when its new workers stand; old ones may still take calls meanwhile."""
    deadline, in_a_row = time.monotonic() + wait_s, 0
    while in_a_row < 20:
        in_a_row = in_a_row + 1 if met() else 0
        assert time.monotonic() < deadline, "nginx did not take up its new configuration"
        time.sleep(0.02)


def workers(process):
    """Numbers of nginx's workers, those that are about to end too."""
    done = subprocess.run(["ps", "-A", "-o", "pid=,pgid=,args="], capture_output=True, text=True, check=True)
    rows = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    return {int(pid) for pid, group, words in rows if int(group) == process.pid and words.startswith("nginx: worker")}


@contextmanager
def node(consortium, name, log, kit=None):
    """A hospital's node as a process of its own, without what keeps it running; it logs to a file."""
    kit = kit or consortium.site(name)
    (port,) = free_ports(1)
    home = kit.state / "flower"
    home.mkdir(parents=True, exist_ok=True)
    environment = launch_environment(home)
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "client.node.supernode", json.dumps({"kit": str(kit.folder), "port": port})],
            cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=15)
        finally:
            end_processes(environment[MARK])
            process.wait()
