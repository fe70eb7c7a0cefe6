"""A federation of the toy sites in one process, on whose wire anything may happen."""

from flwr.app import Context, RecordDict

from client.app import app
from server.federation.rounds import Federation
from server.run_folder.journal import RunFolder
from server.studies.in_process_grid import InProcessGrid
from shared.runtime.project import load_run_config
from shared.tasks import task_named

TASK = "lesion-segmentation"
RUN_CONFIG = {"config": "toy.toml", "seed": -1, "rounds": -1}


class Wire(InProcessGrid):
    """A grid whose nodes come and go, and on whose way answers may be changed: `on_answer(message, [answer])`."""

    def __init__(self, client=app, on_answer=lambda _, answers: answers):
        super().__init__(client, RUN_CONFIG, 3)
        self.online = {1, 2, 3}
        self.on_answer = on_answer
        self.asked = {}

    def get_node_ids(self):
        return sorted(self.online)

    def push_messages(self, messages):
        messages = list(messages)
        identifiers = super().push_messages(messages)
        self.asked |= dict(zip(identifiers, messages, strict=True))
        return identifiers

    def pull_messages(self, message_ids):
        answers = super().pull_messages(message_ids)
        return self.on_answer(self.asked[answers[0].metadata.reply_to_message_id], answers) if answers else []

    def renew(self, node, number):
        """A node comes back under another number."""
        config = self._contexts[node].node_config
        self._contexts[number] = Context(
            run_id=1, node_id=number, node_config=config, state=RecordDict(), run_config=RUN_CONFIG
        )
        self.online = (self.online - {node}) | {number}


def opened(root, name, run_config, *, resume):
    """A run's folder and configuration: a new one's, or those of one that goes on."""
    path = root / "runs" / name
    if resume:
        return RunFolder.resume(path)
    config = load_run_config(run_config)
    return RunFolder.create(path, config), config


def train(grid, config, folder, on_progress=lambda *_: None):
    """Register and train; the folder is given back whatever happens."""
    federation = Federation(grid, config, folder, on_progress)
    try:
        federation.register()
        return federation, federation.train(task_named(config.task))
    finally:
        folder.release()


def federate(root, name="one", grid=None, resume=False, **told):
    folder, config = opened(root, name, RUN_CONFIG, resume=resume)
    return train(grid or Wire(), config, folder, **told)


class Killed(BaseException):
    """What no code of ours catches."""


def killed_at(kind, number):
    """A client that is killed by its first message of a kind in a round."""

    def client(message, context):
        if message.metadata.message_type == kind and message.content["header"]["round"] == number:
            raise Killed
        return app(message, context)

    return client


def hashes(records):
    return [item.model_hash for item in records]


def of(message, kind, number, site="centre-b"):
    header = message.content["header"]
    return message.metadata.message_type == kind and (header["round"], header["site"]) == (number, site)


def statuses(records, site="centre-b"):
    return [item.sites[site].status for item in records[1:]]
