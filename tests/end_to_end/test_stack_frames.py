"""How far it is from the two apps to the work: a reader who follows a round meets few stops."""

import inspect
from pathlib import Path

import pytest
from flwr.app import Context

from client.app import app
from server import app as server_app
from server.studies.in_process_grid import InProcessGrid
from shared.errors import RunError
from shared.tasks import task_named

ROOT = Path(__file__).resolve().parents[2]
MOST = 9


def stops(*last):
    """The project's functions on the stack, the innermost first, up to one of `last`; the grid is Flower's part."""
    names = []
    for frame in inspect.stack()[2:]:
        path = Path(frame.filename)
        if path.is_relative_to(ROOT) and not path.is_relative_to(ROOT / "tests") and path.name != "in_process_grid.py":
            names.append(f"{path.stem}.{frame.function}")
            if frame.function in last:
                break
    return names


def test_few_functions_stand_between_the_apps_and_the_request_and_the_batch(project, monkeypatch):
    root = project(federation={"rounds": 1})
    monkeypatch.chdir(root)
    seen = {}

    class Watched(InProcessGrid):
        def push_messages(self, messages):
            messages = list(messages)
            if messages[0].metadata.message_type == "train":
                seen.setdefault("request", stops("main"))
            return super().push_messages(messages)

    def watched(*_):
        seen.setdefault("batch", stops("handle"))
        raise RunError("enough was seen")

    learner = task_named("lesion-segmentation").learner
    monkeypatch.setattr(type(learner), "loss", property(lambda _: watched), raising=False)
    run_config = {"config": "toy.toml", "seed": -1, "rounds": -1, "run-name": "frames"}
    context = Context(run_id=1, node_id=0, node_config={}, state=None, run_config=run_config)
    main = inspect.unwrap(server_app.main)
    with pytest.raises(RunError, match="enough was seen"):
        main(Watched(app, run_config, 3), context)
    assert seen["request"][-1] == "app.main"
    assert seen["batch"][-1] == "app.handle"
    assert len(seen["request"]) + len(seen["batch"]) <= MOST, seen
