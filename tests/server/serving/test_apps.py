"""Which app a hospital runs: only one whose content it approved (scenario 53). Real server, real node, a tiny app."""

import json
import time
from types import SimpleNamespace

import pytest
import tomli_w

from server.flower_run import submit
from server.serving.front import front
from server.serving.superlink import CONNECTION, register, superlink
from shared.audit import read, verify
from shared.bundle import STAGE, open_bundle, stage_app
from shared.flower_home import launch_environment
from shared.processes import MARK, end_processes
from tests.server.serving.stand import make_consortium, node

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
    asked = [Message(RecordDict(), message_type="query", dst_node_id=node) for node in nodes]
    replies = grid.send_and_receive(asked, timeout=60)
    said = [reply.error.reason if reply.has_error() else "answered" for reply in replies]
    answers = Path(context.run_config["answers"])
    answers.with_suffix(".draft").write_text(json.dumps(said))
    answers.with_suffix(".draft").rename(answers)
"""
CLIENT = """
from pathlib import Path
from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp
with Path({trace!r}).open("a") as stream:
    stream.write("imported ")
app = ClientApp()
@app.query()
def query(message, context):
    return Message(RecordDict(), reply_to=message)
"""


@pytest.fixture
def hospital(nginx, tmp_path):
    """A connected hospital, and a function that runs the app on it: what the server was answered."""
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

    def run():
        stage = stage_app(source, tmp_path / f"stage-{(number := next(turn))}" / STAGE)
        answers = tmp_path / f"answers-{number}.json"
        (tmp_path / "run.toml").write_text(tomli_w.dumps({"answers": str(answers)}))
        submit(stage, CONNECTION, tmp_path / "run.toml", environment)
        deadline = time.monotonic() + 60
        while not answers.exists():
            assert time.monotonic() < deadline, (kit.state / "superlink.log").read_text()[-3000:]
            time.sleep(0.1)
        return json.loads(answers.read_text())

    try:
        with superlink(kit, home, environment), front(kit, environment, "127.0.0.1"):
            register(kit.sites()[0], environment)
            with node(consortium, "centre-a", tmp_path / "node.log"):
                yield SimpleNamespace(site=site, source=source, run=run, trace=trace)
    finally:
        end_processes(environment[MARK])


def test_only_an_approved_app_is_imported_and_one_changed_byte_is_another_app(hospital):
    def told():
        lines = read(hospital.site.state / "audit.jsonl")
        return [(line["event"], line["app"]) for line in lines if line["event"].startswith("app-")]

    first = open_bundle(hospital.source).sha256
    refusal = ["The FAB could not be verified."]
    assert hospital.run() == refusal
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
    assert hospital.run() == refusal
    assert told()[2:] == [("app-refused", second)]
    assert hospital.trace.read_text() == "imported "

    app.write_bytes(app.read_bytes().replace(b"Imported ", b"imported "))
    hospital.site.withdraw(first)
    assert hospital.run() == refusal
    assert told()[3:] == [("app-refused", first)]
    assert hospital.trace.read_text() == "imported "
    assert verify(hospital.site.state / "audit.jsonl").broken_at is None
