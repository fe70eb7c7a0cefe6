"""The report's oracle: malignancy is among its figures where the phantoms have both classes, and only there."""

from pathlib import Path

import numpy as np
import pytest

from server.evaluation import external_validation
from shared.config.run_config import load_config
from shared.phantom.benign import malignancy_oracle
from shared.phantom.centres import CENTRES, population_at
from shared.tasks import task_named

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
EXTERNAL = Path("data/phantom/centre-d")


def oracle(name, which=""):
    config = load_config(CONFIGS / f"{name}.toml")
    task = task_named(which or config.tasks[0])
    return external_validation._oracle(task, config.for_task(task.name), EXTERNAL)


def test_phantoms_with_benign_patients_have_an_oracle_of_malignancy():
    settings = load_config(CONFIGS / "malignancy.toml").data.phantom
    expected = malignancy_oracle(population_at(CENTRES["D"], settings.shift), settings.separation)
    found = oracle("malignancy")
    assert found["malignant"] == pytest.approx(expected)
    # The mean is over the labels of the task: of one label it is that label's.
    assert found["macro"] == found["malignant"]
    assert set(oracle("receptors")) == set(found) - {"malignant"}


@pytest.mark.parametrize("name", ["mammography-density", "mammography-subtype"])
def test_the_mean_is_over_the_tasks_own_labels(name):
    areas = oracle("mammography", name)
    assert areas["macro"] == pytest.approx(np.mean([areas[label.name] for label in task_named(name).scored]))


def test_there_is_no_mean_where_one_label_has_no_oracle(monkeypatch):
    monkeypatch.setattr("shared.phantom.oracle.oracle_areas", lambda *_, **__: {"luminal_a": 0.9})
    assert oracle("mammography", "mammography-subtype") == {"luminal_a": 0.9}
