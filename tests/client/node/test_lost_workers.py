"""Flower's own node state with a worker that dies: its message is answered with an error, whenever it died."""

from datetime import timedelta

import pytest
from flwr.app import Message, RecordDict
from flwr.supercore.constant import TaskType
from flwr.supercore.corestate import in_memory_corestate
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supernode.nodestate.in_memory_nodestate import InMemoryNodeState

from client.node.lost_workers import answer_for_lost_workers

pytestmark = pytest.mark.usefixtures("flower_task")
RUN = 1


class Mended(InMemoryNodeState):
    pass


answer_for_lost_workers(Mended)


def message():
    found = Message(RecordDict(), dst_node_id=7, message_type="train")
    found.metadata.__dict__.update(_run_id=RUN)
    found.metadata.__dict__["_message_id"] = found.object_id
    return found


@pytest.fixture
def dead(monkeypatch):
    """A node with a message, whose worker has died; it had `fetched` the message or not."""

    def make(kind, *, fetched):
        state = kind(ObjectStoreFactory().store())
        state.set_node_id(7)
        asked = message()
        state.store_message(asked)
        task = state.create_task(TaskType.CLIENT_APP, RUN, fab_hash="0" * 64)
        state.claim_task(task)
        assert state.activate_task(task)
        if fetched:
            assert state.get_messages_legacy(run_ids=[RUN], is_reply=False, limit=1)
            state.record_message_processing_start(asked.metadata.message_id)
        real = in_memory_corestate.now
        monkeypatch.setattr(in_memory_corestate, "now", lambda: real() + timedelta(minutes=5))
        return asked.metadata.message_id, list(state.get_messages_legacy(is_reply=True)), state

    return make


@pytest.mark.parametrize("fetched", [True, False])
def test_scenario_12_a_dead_workers_message_is_answered_once_with_an_error(dead, fetched):
    asked, (answer,), state = dead(Mended, fetched=fetched)
    assert answer.has_error()
    assert answer.metadata.reply_to_message_id == asked
    assert list(state.get_messages_legacy(is_reply=True)) == []


def test_flowers_own_answers_only_where_it_was_fetched(dead):
    """When this fails, Flower has mended it and `client.node.lost_workers` may go."""
    assert len(dead(InMemoryNodeState, fetched=True)[1]) == 1
    assert dead(InMemoryNodeState, fetched=False)[1] == []
