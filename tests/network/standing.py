"""A consortium that stands for a session, on a copy of the app, and the replay of its run in one process."""

import shutil
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path

import pytest
from flwr.app import Error, Message

from shared.runtime.app_bundle import open_bundle
from shared.runtime.project import load_run_config
from shared.tasks import task_named
from tests.network.consortium import SITES, TASK, Consortium

ROOT = Path(__file__).resolve().parents[2]
APP = ("pyproject.toml", "fedbreast.py", "README.md", "LICENSE", "server", "client", "shared", "configs")


@contextmanager
def stand(root, data, cache, sites=SITES):
    """The consortium, on a copy of the app that nobody edits while the tests run."""
    for name in APP:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, root / name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a library that Flower calls
        app = open_bundle(root).sha256
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDBREAST_ROOT", str(root))
        patch.setenv("FEDBREAST_CACHE", str(cache))
        found = Consortium(root, data, app, sites)
        try:
            yield found
        finally:
            found.close()


@contextmanager
def in_process(consortium, folder, absent=()):
    """The federation of the current configuration in this process, without a network, its sites prepared.

    `absent` names (site, round) pairs whose training gets no answer; in round 0 the site never joins.
    """
    from client.app import app
    from server.federation.rounds import Federation
    from server.run_folder.journal import RunFolder
    from server.studies.in_process_grid import InProcessGrid

    sites = consortium.sites

    def client(message, context):
        site, number = sites[context.node_config["partition-id"]], message.content["header"]["round"]
        if (message.metadata.message_type == "train" or number == 0) and (site, number) in absent:
            return Message(Error(code=8, reason="absent"), reply_to=message)
        return app(message, context)

    settings = {"config": f"{consortium.name}.toml", "seed": -1, "rounds": -1}
    config = load_run_config(settings)
    run = RunFolder.create(Path(tempfile.mkdtemp(dir=folder)), config)
    try:
        federation = Federation(InProcessGrid(client, settings, len(sites)), config, run, lambda *_: None)
        federation.register()
        yield federation
    finally:
        run.release()


def replay(consortium, folder, absent=()):
    """Hashes of the current configuration's models as made `in_process`."""
    with in_process(consortium, folder, absent) as federation:
        return [item.model_hash for item in federation.train(task_named(TASK))]
