"""The client app on real messages: who is answered, what a refusal says, and that the audit log tells all."""

from types import SimpleNamespace

import pytest
from flwr.app import Message
from flwr.app.metadata import Metadata

import client.policy
from client.app import _answering
from shared.config.run_config import parse_config
from shared.messages.instruction_reply import Instruction
from shared.messages.records import read_reply, write_instruction
from shared.policy import Policy
from shared.runtime.audit_log import AUDIT, read

CONFIG = parse_config(
    {"name": "t", "data": {"root": "d", "sites": ["north", "south"]}, "federation": {"rounds": 9}}, "t"
)
TASK = "lesion-segmentation"

pytestmark = pytest.mark.usefixtures("flower_task")


@pytest.fixture
def ask(tmp_path, monkeypatch):
    """Send an instruction to the node of the hospital `north`; the answer as the server reads it."""
    monkeypatch.setenv("FEDBREAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(AUDIT, str(tmp_path / "audit.jsonl"))

    data = tmp_path / "data"
    data.mkdir()
    (data / "site.toml").write_text(f'[site]\nname = "north"\npseudonym_key = "{"ab" * 16}"\n')
    (data / "cases.csv").write_text("patient_id\n")

    def send(action, site="north", config=CONFIG, **policy):
        if policy:
            monkeypatch.setattr(client.policy, "Policy", lambda: Policy(**policy))
        instruction = Instruction("run", 1, site=site, config=config, task=TASK)
        message = Message(write_instruction(instruction), metadata=Metadata(0, "1", 0, 1, "", "", 0.0, 60.0, "query"))
        node = {"data-dir": str(data), "site": "north"}
        return read_reply(_answering(action)(message, SimpleNamespace(node_config=node)), CONFIG, TASK)

    return send


def test_a_node_says_which_centre_it_holds_and_the_audit_log_that_it_did(ask, tmp_path):
    reply = ask("register", site="")
    assert (reply.run, reply.round, reply.sites, reply.error) == ("run", 1, (0,), "")
    (entry,) = read(tmp_path / "audit.jsonl")
    assert (entry["event"], entry["action"], entry["weights"], entry["error"]) == ("answered", "register", 0, "")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_rounds": 8}, "the run has 9 rounds, this hospital's policy allows 8"),
        ({"tasks": ("subtype-ensemble",)}, f"policy does not allow {TASK}"),
        ({"site": "south"}, "this node holds no data of site 'south'"),
        ({"config": None}, "the server sent no configuration"),
    ],
)
def test_what_is_refused_is_answered_without_weights_and_recorded_with_its_reason(ask, tmp_path, changes, words):
    reply = ask("train", **changes)
    assert words in reply.error
    assert reply.weights is None
    (entry,) = read(tmp_path / "audit.jsonl")
    assert (entry["action"], entry["error"]) == ("train", reply.error)


def test_h12_what_a_node_writes_is_its_users_alone_whoever_started_it(ask, tmp_path):
    ask("train", site="south")
    written = list((tmp_path / "cache").rglob("*"))
    assert written
    written += [tmp_path / "cache"]
    assert [path for path in written if path.stat().st_mode & 0o077] == []
    assert (tmp_path / "audit.jsonl").stat().st_mode & 0o777 == 0o640  # it holds no images, and its group reads it


def test_an_answer_that_cannot_be_recorded_is_not_given(ask, tmp_path):
    (tmp_path / "audit.jsonl").mkdir()
    reply = ask("register", site="")
    assert reply.error
    assert reply.sites == ()
    assert str(tmp_path) not in reply.error
