"""The report's oracle: malignancy is among its figures where the phantoms have both classes, and only there."""

from pathlib import Path

import pytest

from server.evaluation import external_validation
from shared.config.run_config import load_config
from shared.phantom.benign import malignancy_oracle
from shared.phantom.centres import CENTRES, population_at
from shared.tasks import task_named

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
EXTERNAL = Path("data/phantom/centre-d")


def oracle(name):
    config = load_config(CONFIGS / f"{name}.toml")
    task = task_named(config.tasks[0])
    return external_validation._oracle(task, config.for_task(task.name), EXTERNAL)


def test_phantoms_with_benign_patients_have_an_oracle_of_malignancy():
    settings = load_config(CONFIGS / "malignancy.toml").data.phantom
    expected = malignancy_oracle(population_at(CENTRES["D"], settings.shift), settings.separation)
    found = oracle("malignancy")
    assert found["malignant"] == pytest.approx(expected)
    # The mean is over the labels of the task: of one label it is that label's.
    assert found["macro"] == found["malignant"]
    assert set(oracle("receptors")) == set(found) - {"malignant"}
