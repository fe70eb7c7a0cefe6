"""A hospital that floods the real SuperLink in a run, through the real nginx (scenario 64): what is kept of it.

Its calls are Flower's own, made here by hand, so that they may say what no node would.
"""

import time
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from flwr.app.message.arraychunk import ArrayChunk
from flwr.proto import fleet_pb2, heartbeat_pb2, message_pb2, node_pb2
from flwr.supercore.inflatable.inflatable_object import get_object_id, iterate_object_tree

from client.node.fleet_client import tls_context
from server.deployment.flower_cli import flwr
from server.deployment.superlink import CONNECTION
from server.deployment.superlink_quota import ANNOUNCEMENTS, SPARE_BYTES
from shared.runtime.processes import MARK, processes_of
from tests.server.deployment.stand import call, connection, post, signed, small_app

pytestmark = pytest.mark.slow
PIECE, PIECES = 5 << 20, 60
MOST_PIECES = SPARE_BYTES // PIECE  # the questions are of 8 KB
MOST_GROWTH, AT_ONCE_S = 100 << 20, 1.0
REFUSED = 403
FORMS = {
    "send-node-heartbeat": (heartbeat_pb2.SendNodeHeartbeatRequest, heartbeat_pb2.SendNodeHeartbeatResponse),
    "pull-messages": (fleet_pb2.PullMessagesRequest, fleet_pb2.PullMessagesResponse),
    "push-messages": (fleet_pb2.PushMessagesRequest, fleet_pb2.PushMessagesResponse),
    "pull-object": (message_pb2.PullObjectRequest, message_pb2.PullObjectResponse),
    "push-object": (message_pb2.PushObjectRequest, message_pb2.PushObjectResponse),
}
ASKS = """
import time
from pathlib import Path
import numpy as np
from flwr.app import ArrayRecord, Message, RecordDict
from flwr.serverapp import ServerApp
app = ServerApp()
@app.main()
def main(grid, context):
    for number in range({questions}):
        content = RecordDict({{"weights": ArrayRecord([np.full(1000, number)])}})
        grid.push_messages([Message(content, dst_node_id=node, message_type="train") for node in {nodes}])
    while Path({goes_on!r}).exists():
        time.sleep(0.1)
"""
QUESTIONS = 6  # as many as the tests take of the first


def superlink_of(served):
    """Where the system tells of the SuperLink's process."""
    for item in processes_of(served.environment[MARK]):
        folder = Path(f"/proc/{item.pid}")
        with suppress(OSError):  # another of the run's, that ended just now
            if b"flower-superlink" in (folder / "cmdline").read_bytes():
                return folder
    pytest.fail("no SuperLink runs")


@pytest.fixture(scope="module")
def flooded(served, tmp_path_factory):
    """A run that asks two hospitals, and how much memory the SuperLink takes."""
    names = ("centre-a", "centre-b")
    for name in names:
        key = b64decode(signed(served.consortium.site(name))["flwr-public-key"])
        body = fleet_pb2.ActivateNodeRequest(public_key=key, heartbeat_interval=30.0).SerializeToString()
        assert call(served.consortium, name, "/v1/fleet/activate-node", body)[0] == 200
    app = small_app(tmp_path_factory.mktemp("app"), "asks")
    nodes = [served.numbers[name] for name in names]
    goes_on = app.parent / "goes-on"
    goes_on.touch()
    (app / "asks.py").write_text(ASKS.format(questions=QUESTIONS, nodes=nodes, goes_on=str(goes_on)))
    assert flwr(["flwr", "run", str(app), CONNECTION], served.environment).get("run-id")
    folder = superlink_of(served)

    def taken():
        (line,) = [line for line in (folder / "status").read_text().splitlines() if line.startswith("VmRSS:")]
        return int(line.split()[1]) << 10

    yield SimpleNamespace(consortium=served.consortium, numbers=served.numbers, taken=taken)
    goes_on.unlink()


@contextmanager
def hospital(flooded, name):
    """Makes calls as a hospital; a call returns the answer, or the status where that is not 200."""
    kit, node = flooded.consortium.site(name), node_pb2.Node(node_id=flooded.numbers[name])
    with connection(flooded.consortium.port, tls_context(kit)) as opened:

        def say(what, **fields):
            asks, answers = FORMS[what]
            status, body = post(opened, f"/v1/fleet/{what}", signed(kit), asks(node=node, **fields).SerializeToString())
            return answers.FromString(body) if status == 200 else status

        yield say


def question(say):
    """The next question to a hospital, which fetches all of it, also what the server has yet to bring."""
    deadline = time.monotonic() + 30

    def until(met):
        while not (found := met()):
            assert time.monotonic() < deadline, "no question came"
            time.sleep(0.05)
        return found

    found = until(lambda: answer if (answer := say("pull-messages")).messages_list else None)
    (asked,), (tree,) = found.messages_list, found.message_object_trees
    for item in iterate_object_tree(tree):
        fetch = partial(say, "pull-object", run_id=asked.metadata.run_id, object_id=item.object_id)
        until(lambda fetch=fetch: fetch().object_available)
    return asked


def announce(say, asked, objects=(), **other):
    """Announce an answer of these objects; `other` says what stands in it instead."""
    answer = type(asked)()
    answer.CopyFrom(asked)
    facts = answer.metadata
    said = {"src_node_id": facts.dst_node_id, "dst_node_id": 1, "reply_to_message_id": facts.message_id, "ttl": 60.0,
            "created_at": time.time(), "message_id": get_object_id(repr(time.time_ns()).encode())}  # fmt: skip
    for name, value in (said | other).items():
        setattr(facts, name, value)
    tree = message_pb2.ObjectTree(
        object_id=facts.message_id, children=[message_pb2.ObjectTree(object_id=item) for item in objects]
    )
    return say("push-messages", messages_list=[answer], message_object_trees=[tree], clientapp_runtime_list=[1.0])


def pieces(count, size=PIECE):
    """Objects as Flower cuts weights into, by their names."""
    made = (ArrayChunk(memoryview(time.time_ns().to_bytes(8, "big") * (size // 8))).deflate() for _ in range(count))
    return {get_object_id(content): content for content in made}


def send(say, asked, session, name, content):
    more = {"run_id": asked.metadata.run_id, "session_id": session, "object_id": name, "object_content": content}
    return say("push-object", **more).stored


def answered_whole(say):
    asked, made = question(say), pieces(2)
    session = announce(say, asked, made).session_id
    return all(send(say, asked, session, *item) for item in made.items())


def test_three_hundred_megabytes_of_one_hospital_are_not_kept_and_another_is_answered_at_once(flooded):
    with hospital(flooded, "centre-a") as loud, hospital(flooded, "centre-b") as quiet, ThreadPoolExecutor(1) as aside:
        asked, made = question(loud), pieces(PIECES)
        announced = announce(loud, asked, made)
        assert set(announced.objects_to_push) > set(made)
        before, waited, taken = flooded.taken(), [], []
        sent = partial(send, loud, asked, announced.session_id)
        flood = aside.submit(lambda: [sent(*item) for item in made.items()])
        while not flood.done():
            began = time.monotonic()
            assert quiet("send-node-heartbeat", heartbeat_interval=30.0).success
            waited.append(time.monotonic() - began)
            taken.append(flooded.taken())
        assert flood.result() == [number < MOST_PIECES for number in range(PIECES)]
        assert max(waited) < AT_ONCE_S
        assert max(taken) - before < MOST_GROWTH
        assert answered_whole(quiet)


def test_a_hundred_answers_to_one_question_are_not_taken_and_another_hospital_s_is(flooded):
    with hospital(flooded, "centre-a") as loud, hospital(flooded, "centre-b") as quiet:
        asked = question(loud)
        found = [announce(loud, asked) for _ in range(100)]
        assert REFUSED not in found[:ANNOUNCEMENTS]
        assert found[ANNOUNCEMENTS:] == [REFUSED] * (100 - ANNOUNCEMENTS)
        assert answered_whole(quiet)


def test_an_answer_of_ten_thousand_objects_is_not_taken_and_the_next_question_s_is(flooded):
    with hospital(flooded, "centre-a") as loud:
        assert announce(loud, question(loud), [f"{number:064x}" for number in range(10_000)]) == REFUSED
        assert answered_whole(loud)


def test_a_hospital_that_fetches_what_it_sent_may_send_no_more_for_it(flooded):
    with hospital(flooded, "centre-a") as loud:
        asked, made = question(loud), pieces(12)
        session, kept = announce(loud, asked, made).session_id, 0
        for name, content in made.items():
            kept += send(loud, asked, session, name, content)
            loud("pull-object", run_id=asked.metadata.run_id, object_id=name)
        assert kept == MOST_PIECES


def test_a_hospital_puts_no_question_in_the_servers_name_to_another_nor_to_itself(flooded):
    with hospital(flooded, "centre-a") as loud, hospital(flooded, "centre-b") as other:
        asked = question(loud)
        for name, say in (("centre-a", loud), ("centre-b", other)):
            forged = {"message_id": get_object_id(name.encode()), "src_node_id": 1, "reply_to_message_id": ""}
            assert announce(loud, asked, dst_node_id=flooded.numbers[name], **forged) == REFUSED
            while found := say("pull-messages").messages_list:
                assert found[0].metadata.message_id != forged["message_id"]
