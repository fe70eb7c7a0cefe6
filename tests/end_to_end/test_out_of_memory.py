"""A site whose GPU is too small for the run: the others go on, and the ledger says why."""

import torch

from client.app import app
from server.federation.rounds import Federation
from server.run_folder.journal import RunFolder
from server.studies.in_process_grid import InProcessGrid
from shared import training
from shared.runtime.project import load_run_config
from shared.tasks import task_named

RUN_CONFIG = {"config": "toy.toml", "seed": -1, "rounds": -1}


def test_scenario_63_a_site_whose_gpu_cannot_hold_one_sample_leaves_the_round_and_the_ledger_says_why(
    project, monkeypatch
):
    root = project(federation={"rounds": 1})
    steps, sizes = training._steps, []

    def short_of_memory(model, cases, config, number, site, anchor):
        if site == "centre-b":
            sizes.append(config.training.batch_size)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return steps(model, cases, config, number, site, anchor)

    monkeypatch.setattr(training, "_steps", short_of_memory)
    folder = RunFolder.create(root / "runs" / "one", load_run_config(RUN_CONFIG))
    federation = Federation(InProcessGrid(app, RUN_CONFIG, 3), load_run_config(RUN_CONFIG), folder, lambda *_: None)
    federation.register()
    record = federation.train(task_named("lesion-segmentation"))[-1]
    folder.release()
    assert sizes == [2, 1] * 2  # asked once more, as after any failure
    assert record.sites["centre-b"].status == "failed"
    assert "the GPU has not enough memory for a batch of 1: lower" in record.sites["centre-b"].reason
    assert [record.sites[name].status for name in ("centre-a", "centre-c")] == ["accepted"] * 2
