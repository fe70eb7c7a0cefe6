"""Which app a hospital runs: only one whose content it approved (scenario 53). Real server, real nodes, a tiny app."""

import json
import subprocess
import time
from types import SimpleNamespace

import httpx
import pytest
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.runtime import RuntimeHttpClient

from server.deployment.flower_cli import Link, submit
from server.deployment.nginx import run_nginx
from server.deployment.superlink import CONNECTION, LOG, register, superlink
from shared.runtime.app_bundle import STAGE, open_bundle, stage_app
from shared.runtime.audit_log import read, verify
from shared.runtime.flower_home import BINARIES, launch_environment
from shared.runtime.processes import MARK, end_processes
from tests.server.deployment.stand import make_consortium, node

# Flower's bundling calls an old name of another package.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")]

PYPROJECT = """[project]
name = "fedbreast"
version = "1.0.0"
[tool.flwr.app]
publisher = "fedbreast"
fab-include = ["server/**/*.py", "client/**/*.py"]
[tool.flwr.app.components]
serverapp = "server.app:app"
clientapp = "client.app:app"
[tool.flwr.app.config]
answers = ""
twice = false
"""
SERVER = """
import json, time
from pathlib import Path
from flwr.app import Message, RecordDict
from flwr.serverapp import ServerApp
app = ServerApp()
@app.main()
def main(grid, context):
    while not (nodes := list(grid.get_node_ids())):
        time.sleep(0.2)
    def said():
        asked = [Message(RecordDict(), message_type="query", dst_node_id=node) for node in nodes]
        replies = grid.send_and_receive(asked, timeout=60)
        return [reply.error.reason if reply.has_error() else "answered" for reply in replies]
    def told(path, words):
        path.with_suffix(".draft").write_text(json.dumps(words))
        path.with_suffix(".draft").rename(path)
    answers = Path(context.run_config["answers"])
    words = said()
    if context.run_config["twice"]:
        told(answers.with_suffix(".first"), words)
        while not answers.with_suffix(".go").exists():
            time.sleep(0.1)
        words = said()
    told(answers, words)
"""
CLIENT = """
from pathlib import Path
from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp
with Path({trace!r}).open("a") as stream:
    stream.write("imported ")
    if "--token\\0" in Path("/proc/self/cmdline").read_text():
        stream.write("and everybody can read its token ")
app = ClientApp()
@app.query()
def query(message, context):
    return Message(RecordDict(), reply_to=message)
"""


@pytest.fixture
def hospital(nginx, tmp_path):
    """A hospital and its server, and functions that run the app on it: what the server was answered."""
    consortium = make_consortium(tmp_path, ("centre-a",))
    kit, site, trace = consortium.kit, consortium.site("centre-a"), tmp_path / "trace"
    source = tmp_path / "source"
    for name, text in {
        "pyproject.toml": PYPROJECT,
        "server/__init__.py": "",
        "server/app.py": SERVER,
        "client/__init__.py": "",
        "client/app.py": CLIENT.format(trace=str(trace)),
    }.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    home = kit.state / "flower"
    home.mkdir(parents=True)
    environment, turn = launch_environment(home), iter(range(10))

    def submitted(twice=False):
        stage = stage_app(source, tmp_path / f"stage-{(number := next(turn))}" / STAGE)
        answers = tmp_path / f"answers-{number}.json"
        link = Link(CONNECTION, environment, kit.state / LOG, lambda: True)
        submit(link, stage, {"answers": str(answers), "twice": twice})
        return answers

    def answered(answers):
        until(answers.exists, lambda: (kit.state / "superlink.log").read_text()[-3000:])
        return json.loads(answers.read_text())

    try:
        with superlink(kit, home, environment), run_nginx(kit, environment, "127.0.0.1"):
            register(kit.sites()[0], environment)
            yield SimpleNamespace(
                consortium=consortium, site=site, source=source, submitted=submitted, answered=answered, trace=trace
            )
    finally:
        end_processes(environment[MARK])


def until(met, what, wait_s=60):
    deadline = time.monotonic() + wait_s
    while not met():
        assert time.monotonic() < deadline, what()
        time.sleep(0.1)


@pytest.fixture
def connected(hospital, tmp_path):
    """The hospital with a node, and a function that runs the app on it."""
    with node(hospital.consortium, "centre-a", tmp_path / "node.log") as process:
        port = json.loads(process.args[-1])["port"]
        yield SimpleNamespace(**vars(hospital), run=lambda: hospital.answered(hospital.submitted()), port=port)


REFUSAL = ["The FAB could not be verified."]


def test_only_an_approved_app_is_imported_and_one_changed_byte_is_another_app(connected):
    hospital = connected

    def told():
        lines = read(hospital.site.state / "audit.jsonl")
        return [(line["event"], line["app"]) for line in lines if line["event"].startswith("app-")]

    first = open_bundle(hospital.source).sha256
    assert hospital.run() == REFUSAL
    assert told() == [("app-refused", first)]
    assert not hospital.trace.exists()

    hospital.site.approve(first, "tiny")
    assert hospital.run() == ["answered"]
    assert told()[1:] == [("app-accepted", first)]
    assert hospital.trace.read_text() == "imported "

    app = hospital.source / "client" / "app.py"
    app.write_bytes(app.read_bytes().replace(b"imported ", b"Imported "))
    second = open_bundle(hospital.source).sha256
    assert second != first
    assert hospital.run() == REFUSAL
    assert told()[2:] == [("app-refused", second)]
    assert hospital.trace.read_text() == "imported "

    app.write_bytes(app.read_bytes().replace(b"Imported ", b"imported "))
    hospital.site.withdraw(first)
    assert hospital.run() == REFUSAL
    assert told()[3:] == [("app-refused", first)]
    assert hospital.trace.read_text() == "imported "
    assert verify(hospital.site.state / "audit.jsonl").broken_at is None


def test_nobody_else_on_the_hospitals_machine_is_given_the_nodes_work(connected):
    connected.site.approve(open_bundle(connected.source).sha256, "tiny")
    assert connected.run() == ["answered"]  # its own starter is
    stranger = RuntimeHttpClient.from_server_address(
        server_address=f"127.0.0.1:{connected.port}", insecure=True, root_certificates=None,
        interceptors=[RuntimeVersionHttpInterceptor(component_name="SuperExec")], retry_invoker=None,
    )  # fmt: skip
    try:
        with pytest.raises(httpx.HTTPStatusError, match="401"):
            stranger.AcquireTask(AcquireTaskRequest(supported_task_types=["flwr-clientapp"]))
    finally:
        stranger.close()


def test_an_app_that_is_withdrawn_in_a_run_answers_no_message_more(hospital, tmp_path):
    """Flower asks for a run's app once: it is the node's keeper who sees to it."""
    digest, log = open_bundle(hospital.source).sha256, tmp_path / "site.log"
    hospital.site.approve(digest, "tiny")
    (hospital.site.folder / "data").mkdir()
    (hospital.site.folder / "data" / "site.toml").write_text('[site]\nname = "centre-a"\n')
    (hospital.site.folder / "data" / "cases.csv").write_text("patient\n")
    with log.open("wb") as stream:
        keeper = subprocess.Popen(
            [BINARIES / "fedbreast", "serve-site", hospital.site.folder], stdin=subprocess.DEVNULL, stdout=stream,
            stderr=stream, start_new_session=True,
        )  # fmt: skip
    try:
        answers = hospital.submitted(twice=True)
        assert hospital.answered(answers.with_suffix(".first")) == ["answered"]
        hospital.site.withdraw(digest[:8])
        until(lambda: log.read_text().count(" connected ") > 1, log.read_text)
        answers.with_suffix(".go").touch()
        assert hospital.answered(answers) == REFUSAL
    finally:
        keeper.terminate()
        keeper.wait(timeout=30)
    assert hospital.trace.read_text() == "imported "
    told = [line for line in read(hospital.site.state / "audit.jsonl") if line["event"] != "server-reached"]
    assert [line["event"] for line in told] == [
        "serving-started", "connected", "app-accepted", "connection-ended", "connected", "app-refused", "serving-ended",
    ]  # fmt: skip
    assert "an approval was withdrawn" in told[3]["why"]
