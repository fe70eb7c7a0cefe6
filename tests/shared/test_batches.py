"""Batches by processes: each seeded by its number, the same bytes with any number of processes, which end in time."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from shared import batches as module
from shared.batches import _chosen, batches
from shared.config.run_config import parse_config
from shared.errors import RunError
from shared.reproducibility import derive_seed
from shared.tasks import task_named

ROOT = Path(__file__).resolve().parents[2]
SHAPE = (8, 16, 16)


def case(number):
    draws = np.random.default_rng(number)
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:5, 4:9, 4:9] = 1
    image = draws.normal(number, 0.1, (2, *SHAPE)).astype(np.float16)
    return SimpleNamespace(image=image, mask=mask, foreground=np.argwhere(mask).astype(np.int32))


CASES = [case(number) for number in range(5)]


def config(workers, **training):
    raw = {
        "name": "t",
        "data": {"root": "d", "sites": ["a"]},
        "preprocessing": {"post_phases": 1},
        "training": {"mode": "patch", "patch_voxels": [8, 8, 8], "steps_per_round": 6, **training},
        "compute": {"loader_workers": workers, "prefetch": 1},
    }
    return parse_config(raw, "t")


@pytest.fixture
def many_cores(monkeypatch):
    """As many processes as asked for, whatever this machine has."""
    monkeypatch.setattr(module, "_workers", lambda settings: settings.compute.loader_workers)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.utils.data.DataLoader.check_worker_number_rationality", lambda _: None)
        yield


def made(workers, seed=3, **training):
    return [(image.clone(), target.clone()) for image, target in batches(CASES, config(workers, **training), seed=seed)]


def equal(one, other):
    return len(one) == len(other) and all(
        torch.equal(a, b) for first, second in zip(one, other, strict=True) for a, b in zip(first, second, strict=True)
    )


def test_the_bytes_do_not_depend_on_how_many_processes_prepare_them(many_cores):
    one, three = made(1), made(3)
    assert len(one) == 6
    assert equal(one, three)
    assert not equal(one, made(1, seed=4))


def test_each_batch_is_drawn_from_its_number_alone():
    settings, learner = config(1), task_named("lesion-segmentation").learner
    order = _chosen(len(CASES), 2, np.random.default_rng(3))
    expected = []
    for number in range(6):
        own = derive_seed(3, number)
        draws = np.random.default_rng(own)
        samples = [learner.sample(CASES[index], settings, draws) for index in next(order)]
        image, target = (torch.from_numpy(np.stack(part)) for part in zip(*samples, strict=True))
        generator = torch.Generator().manual_seed(own)
        expected.append(learner.augment(image, target, settings.training.augmentation, generator))
    assert equal(made(1), expected)


def test_networks_draw_the_same_beside_any_number_of_processes(many_cores):
    def drawn(workers):
        torch.manual_seed(5)
        made(workers)
        return torch.rand(3)

    assert torch.equal(drawn(0), drawn(2))


def test_each_case_comes_once_an_epoch_and_what_is_left_first_in_the_next():
    order = _chosen(5, 2, np.random.default_rng(0))
    flat = [index for _ in range(5) for index in next(order)]
    assert sorted(flat[:5]) == sorted(flat[5:]) == list(range(5))


def test_no_more_processes_than_cores_or_batches(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    asked = {number: module._workers(config(number)) for number in (0, 2, 200)}
    assert asked == {0: 0, 2: 2, 200: 3}
    assert module._workers(config(200, steps_per_round=1)) == 1


PARENT = """
import os, pickle, sys, time
from contextlib import closing
from shared.batches import batches
def main():
    cases, config = pickle.load(open(sys.argv[1], "rb"))
    with closing(batches(cases, config, seed=1)) as prepared:
        next(prepared)
        print(*(child.pid for child in __import__("multiprocessing").active_children()), flush=True)
        time.sleep(60)
if __name__ == "__main__":
    main()
"""


def gone(pids):
    def alive(pid):
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
        except OSError:
            return False

    deadline = time.monotonic() + 30
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not any(map(alive, pids))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc to see what is left")
def test_the_processes_end_with_a_parent_that_is_killed_outright(tmp_path):
    import pickle

    script, data = tmp_path / "parent.py", tmp_path / "data.pickle"
    script.write_text(PARENT)
    data.write_bytes(pickle.dumps((CASES, config(1, steps_per_round=50))))
    command = [sys.executable, str(script), str(data)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)}) as parent:
        pids = [int(item) for item in parent.stdout.readline().split()]
        assert len(pids) == 1
        parent.kill()
    assert gone(pids)


def test_the_processes_end_with_the_iterator_and_one_that_is_killed_is_told_with_the_remedy():
    import multiprocessing

    with closing(batches(CASES, config(1), seed=1)) as prepared:
        next(prepared)
        pids = [child.pid for child in multiprocessing.active_children()]
        assert len(pids) == 1
    assert gone(pids)
    with closing(batches(CASES, config(1, steps_per_round=50), seed=1)) as prepared:
        next(prepared)
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
        with pytest.raises(RunError, match=r"shm_size.*loader_workers = 0"):
            list(prepared)
