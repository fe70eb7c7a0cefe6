"""FedBN: of every network here all batch norms stay at the site and nothing that is no norm; the rest is FedAvg."""

import numpy as np
import pytest
import torch
from torch import nn

from shared.config.run_config import parse_config
from shared.models.plane_networks import NETWORKS, build_network
from shared.models.uninitialised import UnsetValues
from shared.strategies import strategy_named
from shared.strategies.fedbn import FedBN
from shared.tasks import TASKS, task_named

BATCH = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
ANY = (*BATCH, nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm3d)


def entries(model, kinds):
    """Names of all that modules of these kinds hold."""
    modules = [(name, module) for name, module in model.named_modules() if isinstance(module, kinds)]
    return {f"{name}.{entry}" for name, module in modules for entry in module.state_dict()}


def stays(model):
    return {name for name in model.state_dict() if FedBN().stays_at_site(name)}


@pytest.mark.parametrize("name", NETWORKS)
def test_all_batch_norms_of_a_plane_network_stay_and_nothing_else_but_norms(name):
    with UnsetValues():
        model = build_network(name, 2, size="small", side=64)
    assert stays(model) == entries(model, ANY)
    assert bool(entries(model, BATCH)) == (name != "vit-b16")


@pytest.mark.parametrize("size", ["small", "published"])
@pytest.mark.parametrize("name", TASKS)
def test_all_batch_norms_of_a_task_stay_and_nothing_but_norms(name, size):
    task = task_named(name)
    raw = {"name": "tiny", "tasks": [name], "data": {"root": "data", "sites": ["a", "b"], "external": "c"}}
    raw["model"] = {"norm": "batch"}
    if not name.endswith("segmentation"):
        raw[name.replace("-", "_")] = {"size": size} | ({"pretrained": "none"} if "ensemble" in name else {})
    with UnsetValues():
        model = task.learner.build_model(parse_config(raw, "run.toml").for_task(name))
    assert entries(model, BATCH) <= stays(model) <= entries(model, ANY)


def test_what_stays_is_kept_as_it_was_trained_and_with_its_statistics():
    model = nn.Sequential()
    model.add_module("conv", nn.Conv2d(1, 2, 3))
    model.add_module("norm", nn.BatchNorm2d(2))
    anchor = {name: value.clone() for name, value in model.state_dict().items()}
    model(torch.rand(4, 1, 8, 8) * 5 + 3)
    kept = FedBN().keep_at_site(model, anchor, {})
    assert set(kept) == {f"norm.{part}" for part in ("weight", "bias", *STATISTICS)}
    assert not torch.equal(kept["norm.running_mean"], anchor["norm.running_mean"])
    assert torch.equal(kept["norm.running_mean"], model.norm.running_mean)


def test_the_rest_is_fedavg():
    strategy, mean = strategy_named("fedbn")(), np.array([1.5, 2.5], np.float32)
    assert strategy.server_step(np.zeros(2, np.float32), mean, 1, {})[0] is mean
    assert strategy.loss_term(nn.Linear(1, 1), {}, {}) == 0.0
    assert strategy.title == "FedBN"


ALIKE = ["conv.weight", "normal.weight", "abn1.weight", "downsample.0.weight", "downsample.10.weight", "head.bias"]


@pytest.mark.parametrize("name", ALIKE)
def test_names_that_only_look_alike_are_sent(name):
    assert not FedBN().stays_at_site(name)
