"""What one site can leave in the SuperLink's memory (scenario 64), counted against what it was asked."""

from types import SimpleNamespace

import pytest
from flwr.proto.error_pb2 import Error
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.message_pb2 import Metadata, ObjectTree
from flwr.supercore.error import FlowerError

from server.deployment.superlink_quota import AGAIN, SPARE_BYTES, bind

PIECE = bytes(5 << 20)
HONEST, FLOODS = 1, 2


class Handlers:
    """Flower's four, which keep everything."""

    def __init__(self, pieces=4):
        self.kept = {HONEST: 0, FLOODS: 0}
        self.announced = {HONEST: 0, FLOODS: 0}
        self.question = ObjectTree(object_id="root", children=[ObjectTree(object_id=str(n)) for n in range(pieces)])

    def pull_messages(self, **_):
        return SimpleNamespace(messages_list=["question"], message_object_trees=[self.question])

    def pull_object(self, **_):
        return SimpleNamespace(object_content=PIECE)

    def push_messages(self, *, request, **_):
        self.announced[request.node.node_id] += 1

    def push_object(self, *, request, **_):
        self.kept[request.node.node_id] += len(request.object_content)
        return SimpleNamespace(stored=True)


@pytest.fixture
def handlers():
    found = Handlers()
    bind(found)
    return found


def call(function, node, **fields):
    fields = {"messages_list": []} | fields
    return function(request=SimpleNamespace(node=SimpleNamespace(node_id=node), **fields), state=None)


def ask(handlers, node):
    call(handlers.pull_messages, node)
    for child in handlers.question.children:
        call(handlers.pull_object, node, object_id=child.object_id)


def answer(handlers, node):
    call(handlers.push_messages, node, message_object_trees=[handlers.question])
    return [call(handlers.push_object, node, object_content=PIECE).stored for _ in handlers.question.children]


def test_whoever_answers_what_was_asked_is_never_refused_also_when_an_upload_breaks_off_twice(handlers):
    for _ in range(200):
        ask(handlers, HONEST)
        for _ in range(AGAIN):
            assert answer(handlers, HONEST) == [True] * 4
    # The next question comes with the weights of the last: the node has them.
    call(handlers.pull_messages, HONEST)
    assert answer(handlers, HONEST) == [True] * 4


def test_ten_gigabytes_of_one_site_are_not_kept_and_the_others_go_on(handlers):
    for node in (HONEST, FLOODS):
        ask(handlers, node)
    for _ in range(2000):
        call(handlers.push_object, FLOODS, object_content=PIECE)
    assert handlers.kept[FLOODS] <= AGAIN * 4 * len(PIECE) + SPARE_BYTES
    assert answer(handlers, HONEST) == [True] * 4


def test_fetching_the_same_piece_again_gives_no_right_to_send_more(handlers):
    ask(handlers, FLOODS)
    for _ in range(1000):
        call(handlers.pull_object, FLOODS, object_id="0")
    for _ in range(1000):
        call(handlers.push_object, FLOODS, object_content=PIECE)
    assert handlers.kept[FLOODS] <= AGAIN * 4 * len(PIECE) + SPARE_BYTES


def test_fetching_what_was_no_question_gives_no_right_to_send_more(handlers):
    ask(handlers, FLOODS)
    for number in range(1000):
        call(handlers.pull_object, FLOODS, object_id=f"its own {number}")
        call(handlers.push_object, FLOODS, object_content=PIECE)
    assert handlers.kept[FLOODS] <= AGAIN * 4 * len(PIECE) + SPARE_BYTES


@pytest.mark.parametrize(("by", "answers"), [(HONEST, "question"), (FLOODS, ""), (HONEST, "")])
def test_what_is_no_answer_of_its_own_is_not_taken(handlers, by, answers):
    ask(handlers, FLOODS)
    said = SimpleNamespace(metadata=SimpleNamespace(src_node_id=by, reply_to_message_id=answers))
    with pytest.raises(FlowerError):
        call(handlers.push_messages, FLOODS, messages_list=[said], message_object_trees=[])
    assert handlers.announced[FLOODS] == 0


def test_the_text_of_an_error_is_kept_up_to_its_bound(handlers):
    """Against Flower's own form of an answer that is an error."""
    ask(handlers, FLOODS)

    def told(characters):
        facts = Metadata(src_node_id=FLOODS, reply_to_message_id="question")
        said = ProtoMessage(metadata=facts, error=Error(code=2, reason="x" * characters))
        call(handlers.push_messages, FLOODS, messages_list=[said], message_object_trees=[])

    told(60_000)
    assert handlers.announced[FLOODS] == 1
    with pytest.raises(FlowerError):
        told(16 << 20)
    assert handlers.announced[FLOODS] == 1


def test_a_hundred_thousand_messages_of_one_site_are_not_kept_and_the_others_go_on(handlers):
    ask(handlers, HONEST)
    tree = ObjectTree(object_id="root")
    refused = 0
    for _ in range(100_000):
        try:
            call(handlers.push_messages, FLOODS, message_object_trees=[tree])
        except FlowerError:
            refused += 1
    assert handlers.announced[FLOODS] == 100_000 - refused < 20
    assert answer(handlers, HONEST) == [True] * 4


def test_a_message_of_very_many_objects_is_not_kept(handlers):
    ask(handlers, FLOODS)
    tree = ObjectTree(object_id="root", children=[ObjectTree(object_id=str(n)) for n in range(10_000)])
    with pytest.raises(FlowerError):
        call(handlers.push_messages, FLOODS, message_object_trees=[tree])
    assert handlers.announced[FLOODS] == 0
