"""Answers on their way up are not waited for, and come once, whole; against the bytes that were sent."""

import time

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_to_proto
from flwr.proto.message_pb2 import PullObjectResponse
from flwr.proto.runtime_pb2 import PullAppMessagesResponse
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.run import Run
from flwr.superlink.grid.http_grid import HttpGrid

from server.federation import nonblocking_grid
from server.federation.nonblocking_grid import WholeAnswers
from server.federation.site_requests import pull, read

pytestmark = pytest.mark.usefixtures("flower_task")


class Link:
    """A SuperLink with answers to questions, of which so many objects have arrived; it tells of each answer once."""

    def __init__(self, **answers):
        self.answers, self.objects = answers, {}
        self.arrived, self.confirmed, self.fetched = set(), [], []
        for question, message in answers.items():
            message.metadata.__dict__["_reply_to_message_id"] = question
            message.metadata.__dict__["_message_id"] = message.object_id
            self.objects |= {name: item.deflate() for name, item in get_all_nested_objects(message).items()}

    def PullMessages(self, request):  # noqa: N802 - Flower's name
        found = [self.answers.pop(item) for item in request.message_ids if item in self.answers]
        return PullAppMessagesResponse(
            messages_list=[message_to_proto(remove_content_from_message(item)) for item in found],
            message_object_trees=[get_object_tree(item) for item in found],
        )

    def PullObject(self, request):  # noqa: N802 - the same
        name = request.object_id
        if name not in self.objects:
            return PullObjectResponse(object_found=False)
        if name not in self.arrived:
            return PullObjectResponse(object_found=True, object_available=False)
        self.fetched.append(name)
        return PullObjectResponse(object_found=True, object_available=True, object_content=self.objects[name])

    def ConfirmMessageReceived(self, request):  # noqa: N802 - the same
        self.confirmed.append(request.message_object_id)


def message(values):
    record = ArrayRecord({"flat": Array(np.arange(values, dtype=np.float32))})
    return Message(RecordDict({"weights": record}), dst_node_id=1, message_type="train")


def grid_of(link):
    grid = HttpGrid(token="none")  # noqa: S106
    grid._client, grid._run = link, Run.create_empty(1)
    return WholeAnswers(grid)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(nonblocking_grid, "_FIRST_PAUSE_S", 0.0)


def flat(answer):
    return answer.content["weights"]["flat"].numpy()


def test_an_answer_comes_once_and_only_when_its_last_object_is_there():
    sent = message(3_000_000)  # several objects
    link = Link(question=sent)
    grid = grid_of(link)
    names = list(link.objects)
    assert len(names) > 4
    for name in names:
        started = time.monotonic()
        assert list(grid.pull_messages(["question"])) == []
        assert time.monotonic() - started < 1
        link.arrived.add(name)
        grid._coming["question"].look_at = 0.0
    (answer,) = grid.pull_messages(["question"])
    assert answer.metadata.reply_to_message_id == "question"
    assert np.array_equal(flat(answer), np.arange(3_000_000, dtype=np.float32))
    assert link.confirmed == [sent.metadata.message_id]
    assert list(grid.pull_messages(["question"])) == []


def test_scenario_7_one_that_is_still_coming_holds_up_no_other():
    slow, good = message(10), message(5)
    link = Link(slow=slow, good=good)
    link.arrived |= set(get_all_nested_objects(good))
    started = time.monotonic()
    (answer,) = grid_of(link).pull_messages(["slow", "good"])
    assert time.monotonic() - started < 1
    assert flat(answer).tolist() == [0, 1, 2, 3, 4]


def test_what_has_arrived_of_it_is_not_fetched_over_and_over():
    link = Link(question=message(3_000_000))
    root = link.answers["question"].metadata.message_id
    link.arrived = set(link.objects) - {root}
    grid = grid_of(link)
    for _ in range(20):
        assert list(grid.pull_messages(["question"])) == []
    assert link.fetched == []


def test_scenario_5_an_upload_that_was_given_up_is_an_error_and_no_answer():
    link = Link(question=message(10))
    link.objects.clear()
    (answer,) = grid_of(link).pull_messages(["question"])
    assert (answer.error.code, answer.metadata.reply_to_message_id) == (ErrorCode.MESSAGE_UNAVAILABLE, "question")
    assert link.confirmed == []


def test_scenario_64_an_answer_much_longer_than_any_question_is_not_fetched(monkeypatch):
    monkeypatch.setattr(HttpGrid, "push_messages", lambda _, messages: ["question"] * len(messages))
    link = Link(question=message(12_000_000), again=message(12_000_000))  # 48 MB
    link.arrived = set(link.objects)
    grid = grid_of(link)
    grid.push_messages([message(1000)])
    (answer,) = grid.pull_messages(["question"])
    assert answer.error.code == ErrorCode.MESSAGE_UNAVAILABLE
    assert len(link.fetched) < len(link.objects) / 2
    # The control: it is as long as what was asked.
    grid.push_messages([message(12_000_000)])
    (answer,) = grid.pull_messages(["again"])
    assert len(flat(answer)) == 12_000_000


def test_an_answer_that_would_grow_in_memory_is_refused_with_its_reason_and_costs_no_other():
    record = ArrayRecord({"flat": Array(np.zeros(30_000_000, np.float32))})  # 120 MB of a chunk of 5 MB
    grown = Message(RecordDict({"weights": record}), dst_node_id=1, message_type="train")
    link = Link(grown=grown, good=message(5))
    link.arrived = set(link.objects)
    (_, refused), (_, good) = pull(grid_of(link), ["grown", "good"])
    assert str(refused) == "its weights would be 114 MB, more than 16 MB"
    assert flat(good).tolist() == [0, 1, 2, 3, 4]
    answer = read(refused, "a", None, "", None)
    assert (answer.status, answer.reason, answer.reply) == ("refused", str(refused), None)


def test_an_answer_whose_question_has_died_is_forgotten():
    link = Link(question=message(10))
    grid = grid_of(link)
    assert list(grid.pull_messages(["question"])) == []
    grid._coming["question"].until = time.time() - 1
    assert list(grid.pull_messages(["question"])) == []
    assert grid._coming == {}
