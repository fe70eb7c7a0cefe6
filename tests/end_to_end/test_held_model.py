"""The model a hospital judged is not sent again to be trained: fewer bytes, the same models, whatever became of it."""

import numpy as np
import pytest

from client.app import app
from client.held_model import complete, hold
from server.held_models import HeldModels
from server.journal import RunFolder
from server.rounds import Federation
from server.studies.in_process import InProcessGrid
from shared.errors import UpdateError
from shared.messages import EVALUATE, TRAIN, Instruction
from shared.payload import flat_hash
from shared.project import load_run_config

TASK = "lesion-segmentation"
RUN_CONFIG = {"config": "toy.toml", "seed": -1, "rounds": -1}
WEIGHTS = np.arange(5, dtype=np.float32)
NAMED = Instruction("r", 1, weights=WEIGHTS, model=flat_hash(WEIGHTS))
LIGHT = Instruction("r", 1, model=flat_hash(WEIGHTS))


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("FEDBREAST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_what_is_held_is_filled_in_and_one_model_a_site_is_kept(cache):
    assert hold("north", NAMED)
    assert np.array_equal(complete("north", LIGHT).weights, WEIGHTS)
    assert complete("north", NAMED) is NAMED
    other = WEIGHTS + 1
    assert hold("north", Instruction("r", 2, weights=other, model=flat_hash(other)))
    assert len(list((cache / "held").iterdir())) == 1
    with pytest.raises(UpdateError, match="must be sent"):
        complete("north", LIGHT)
    with pytest.raises(UpdateError, match="must be sent"):
        complete("south", LIGHT)


def test_a_changed_file_is_not_trained(cache):
    hold("north", NAMED)
    (path,) = (cache / "held").iterdir()
    path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(UpdateError, match="must be sent"):
        complete("north", LIGHT)


@pytest.mark.parametrize("name", ["../../etc/passwd", "A" * 64, "", "a" * 63])
def test_a_model_named_by_no_hash_of_its_weights_is_not_kept(cache, name):
    assert not hold("north", Instruction("r", 1, weights=WEIGHTS, model=name))
    assert not cache.exists()
    if name:
        with pytest.raises(UpdateError, match="no hash"):
            complete("north", Instruction("r", 1, model=name))


def test_a_site_is_spared_for_the_model_and_the_node_that_it_named():
    held = HeldModels()
    held.note("north", 7, NAMED.model)
    assert held.spared(["north", "south"], {"north": 7, "south": 8}, NAMED, TRAIN) == {"north"}
    assert held.spared(["north"], {"north": 9}, NAMED, TRAIN) == set()
    assert held.spared(["north"], {"north": 7}, Instruction("r", 1, model=flat_hash(WEIGHTS + 1)), TRAIN) == set()
    assert held.spared(["north"], {"north": 7}, NAMED, EVALUATE) == set()


@pytest.mark.parametrize("lost", [False, True])
def test_a_run_of_hospitals_sends_each_model_once_a_round_and_gives_the_same_models(project, phantom_root, cache, lost):
    root = project(federation={"rounds": 3, "round_timeout_s": 60})
    sent = []

    def client(message, context):
        header = message.content["header"]
        if message.metadata.message_type == "train":
            sent.append((header["round"], header["site"], "weights" in message.content))
            if lost and header["site"] == "centre-b":
                for path in (cache / "held").glob("centre-b.*"):
                    path.unlink()
        return app(message, context)

    def models(name, *, hospitals):
        config = load_run_config(RUN_CONFIG)
        folder = RunFolder.create(root / "runs" / name, config)
        grid = InProcessGrid(client, RUN_CONFIG, 3)
        if hospitals:
            for context, site in zip(grid._contexts.values(), config.data.sites, strict=True):
                context.node_config = {"site": site, "data-dir": str(phantom_root / site)}
        try:
            federation = Federation(grid, config, folder, lambda *_: None)
            federation.register()
            return federation.train(TASK)
        finally:
            folder.release()

    reference = [item.model_hash for item in models("simulated", hospitals=False)]
    assert all(heavy for _, _, heavy in sent)
    sent.clear()
    records = models("hospitals", hospitals=True)
    assert [item.model_hash for item in records] == reference
    light = {(number, site) for number, site, heavy in sent if not heavy}
    assert light == {(number, site) for number in (2, 3) for site in ("centre-a", "centre-b", "centre-c")}
    again = {(number, site) for number, site, heavy in sent if heavy and number > 1}
    assert again == ({(2, "centre-b"), (3, "centre-b")} if lost else set())
    assert all(entry.status == "accepted" for item in records[1:] for entry in item.sites.values())
