"""The network before training that explanations are held against."""

import torch

from server.evaluation.explain_cases import untrained
from shared.config.run_config import parse_config
from shared.tasks import task_named

CONFIG = parse_config(
    {
        "name": "tiny",
        "tasks": ["subtype-ensemble"],
        "data": {"root": "d", "sites": ["a"], "external": "x"},
        "subtype_ensemble": {
            "plane_depth": 10,
            "plane_width": 4,
            "volume_depth": 10,
            "volume_width": 4,
            "pretrained": "none",
        },
    },
    "t",
).for_task("subtype-ensemble")


def test_an_untrained_network_is_the_start_of_training_but_for_heads_that_say_something():
    start = task_named("subtype-ensemble").learner.build_model(CONFIG).state_dict()
    found = untrained(CONFIG).state_dict()
    differ = {name for name in start if not torch.equal(start[name], found[name])}
    assert differ == {name for name in start if ".head." in name}
    assert all(start[name].abs().sum() == 0 for name in differ)
    again = untrained(CONFIG).state_dict()
    assert all(torch.equal(found[name], again[name]) for name in found)


def test_making_it_moves_no_global_random_state():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    untrained(CONFIG)
    assert torch.equal(torch.rand(1), expected)
