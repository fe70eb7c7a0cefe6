"""A federation's messages in one process: each answered once by its own site, as copies, in the order of arrival."""

import time

import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.clientapp import ClientApp

from server.studies.in_process_grid import InProcessGrid, client_app


@pytest.fixture
def echo():
    """A client app that answers with its partition, and spoils what it was sent."""
    app = ClientApp()

    @app.query()
    def answer(message, context):
        message.content["config"]["said"] = "spoiled"
        content = RecordDict({"from": ConfigRecord({"partition": context.node_config["partition-id"]})})
        return Message(content, reply_to=message)

    return app


def message(grid, node, ttl=None):
    content = RecordDict({"config": ConfigRecord({"said": "hello"}), "arrays": ArrayRecord()})
    return grid.create_message(content, "query", node, "1", ttl)


def partitions(answers):
    return [answer.content["from"]["partition"] for answer in answers]


def test_the_client_app_is_the_one_of_the_project_wherever_data_and_runs_lie(tmp_path, monkeypatch):
    from client.app import app

    monkeypatch.setenv("FEDBREAST_ROOT", str(tmp_path))
    assert client_app() is app


def test_every_site_answers_once_and_cannot_change_what_it_was_sent(echo):
    grid = InProcessGrid(echo, {}, 3)
    assert list(grid.get_node_ids()) == [1, 2, 3]
    sent = [message(grid, node) for node in (1, 2, 3)]
    assert partitions(grid.send_and_receive(sent)) == [0, 1, 2]
    assert [item.content["config"]["said"] for item in sent] == ["hello"] * 3


def test_answers_arrive_in_another_order_where_one_is_asked_for(echo):
    grid = InProcessGrid(echo, {}, 3, order=lambda identifiers: identifiers[::-1])
    assert partitions(grid.send_and_receive([message(grid, node) for node in (1, 2, 3)])) == [2, 1, 0]


def test_a_message_that_is_too_old_is_never_answered(echo):
    grid = InProcessGrid(echo, {}, 2)
    identifiers = list(grid.push_messages([message(grid, 1, ttl=0.01), message(grid, 2)]))
    time.sleep(0.05)
    assert partitions(grid.pull_messages(identifiers)) == [1]
    assert list(grid.pull_messages(identifiers)) == []


def test_it_belongs_to_no_run_of_flower(echo):
    grid = InProcessGrid(echo, {}, 1)
    with pytest.raises(NotImplementedError):
        grid.set_run(None)
    with pytest.raises(NotImplementedError):
        _ = grid.run
