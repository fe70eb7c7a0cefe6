"""Honest sites are within their reach: every task at the rates of the shipped configurations, and every strategy."""

from pathlib import Path

import pytest

from server.run_folder.journal import RunFolder
from server.run_folder.round_record import NO_LABEL
from shared.config.run_config import load_config
from shared.runtime.project import load_run_config
from shared.strategies import STRATEGIES
from shared.tasks import TASKS
from tests.end_to_end.test_classifiers import RUN_CONFIG, SUBTYPE, TINY, federate

ROOT = Path(__file__).resolve().parents[2]
RATES = {"learning_rate", "weight_decay", "warmup_steps", "gradient_clip"}
SHIPPED = [
    (path.stem, task)
    for path in sorted((ROOT / "configs").glob("*.toml"))
    if path.stem != "consortium"
    for task in load_config(path).tasks
]


def small(shipped, task, **sections):
    """A task on the toy phantom, in small, at the rates of a shipped configuration."""
    training = load_config(ROOT / "configs" / f"{shipped}.toml").for_task(task).training.model_dump(include=RATES)
    training |= {"steps_per_round": 8, "batch_size": 2}
    own = (SUBTYPE if task == "subtype-ensemble" else TINY) | {"training": training}
    if task == "subtype-radiomics":
        own |= {"patch": {"voxels": [16, 16, 16], "spacing_mm": 2.0}}
    masks = task.endswith("segmentation")
    return {"tasks": [task], **({"training": training} if masks else {task.replace("-", "_"): own}), **sections}


def accepted(root):
    """Train; every site that was asked is accepted in every round."""
    _, (records,) = federate(root)
    assert records[1:]
    for record in records[1:]:
        assert {entry.reason for entry in record.sites.values() if entry.status != "accepted"} <= {NO_LABEL}
        assert sum(entry.status == "accepted" for entry in record.sites.values()) >= 2


def test_every_task_is_shipped():
    assert {task for _, task in SHIPPED} == set(TASKS)


@pytest.mark.slow
@pytest.mark.parametrize(("shipped", "task"), SHIPPED)
def test_a_task_at_the_rates_of_a_shipped_configuration(project, shipped, task):
    if task == "subtype-radiomics":
        pytest.importorskip("radiomics", reason="the extra `radiomics` is not installed")
    if task.startswith("mammography"):
        pytest.skip("the toy phantom has no mammograms: tests/end_to_end/test_mammography.py trains them")
    accepted(project(**small(shipped, task)))


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("norm", ["group", "batch"])
def test_every_strategy_with_and_without_running_statistics(project, strategy, norm):
    federation = {"strategy": strategy} | ({"fedprox": {"mu": 1e4}} if strategy == "fedprox" else {})
    root = project(
        **small("quick", "lesion-segmentation", model={"channels": [8, 8], "norm": norm}, federation=federation)
    )
    accepted(root)
    folder, _ = RunFolder.resume(root / "runs" / "one")
    folder.release()
    buffers = [name for name in folder.model(folder.records("lesion-segmentation")[-1]) if "running_var" in name]
    assert bool(buffers) == (norm == "batch")
    assert load_run_config(RUN_CONFIG).federation.strategy == strategy
