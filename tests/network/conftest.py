"""One consortium for all tests: starting it costs most of a test's time."""

import shutil
import tempfile
import warnings
from pathlib import Path

import pytest
from flwr.app import Error, Message

from shared.runtime.app_bundle import open_bundle
from shared.runtime.project import load_run_config
from shared.tasks import task_named
from tests.network.consortium import EXTERNAL, SITES, TASK, Consortium

ROOT = Path(__file__).resolve().parents[2]
APP = ("pyproject.toml", "fedbreast.py", "README.md", "LICENSE", "server", "client", "shared", "configs")


@pytest.fixture(scope="session")
def standing(tmp_path_factory, phantom_root, toy_cache):
    """The consortium, on a copy of the app that nobody edits while the tests run."""
    root = tmp_path_factory.mktemp("consortium")
    for name in APP:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, root / name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a library that Flower calls
        app = open_bundle(root).sha256
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDBREAST_ROOT", str(root))
        patch.setenv("FEDBREAST_CACHE", str(toy_cache))
        found = Consortium(root, phantom_root, app)
        yield found
        found.close()


@pytest.fixture
def consortium(standing, toy_config):
    """Give the consortium a configuration, with every process there and every line whole."""

    def make(*, external=False, **sections):
        federation = {"rounds": 2, "round_timeout_s": 120, "join_timeout_s": 60, "min_sites": 1}
        sections["federation"] = federation | sections.get("federation", {})
        config = toy_config(**sections)
        config["data"] = {"root": config["data"]["root"], "sites": list(SITES)}
        config["data"] |= {"external": EXTERNAL} if external else {}
        standing.ready(config)
        return standing

    return make


@pytest.fixture
def reference(standing, tmp_path):
    """Hashes of the current configuration's models, made in this process without a network.

    `absent` names (site, round) pairs whose training gets no answer; in round 0 the site never joins.
    """

    def federate(absent=()):
        from client.app import app
        from server.federation.rounds import Federation
        from server.run_folder.journal import RunFolder
        from server.studies.in_process_grid import InProcessGrid

        def client(message, context):
            site, number = SITES[context.node_config["partition-id"]], message.content["header"]["round"]
            if (message.metadata.message_type == "train" or number == 0) and (site, number) in absent:
                return Message(Error(code=8, reason="absent"), reply_to=message)
            return app(message, context)

        settings = {"config": f"{standing.name}.toml", "seed": -1, "rounds": -1}
        config = load_run_config(settings)
        folder = RunFolder.create(Path(tempfile.mkdtemp(dir=tmp_path)), config)
        try:
            federation = Federation(InProcessGrid(client, settings, len(SITES)), config, folder, lambda *_: None)
            federation.register()
            return [item.model_hash for item in federation.train(task_named(TASK))]
        finally:
            folder.release()

    return federate
