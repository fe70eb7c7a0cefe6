"""Every configuration builds its networks, and each makes a step: small inputs here, at its size with `-m slow`."""

from pathlib import Path

import pytest
import torch

from shared.config.run_config import load_config
from shared.inference import in_layout, place_model
from shared.tasks import task_named

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
RUNS = sorted(set(CONFIGS.glob("*.toml")) - {CONFIGS / "consortium.toml"})
TASKS = [(file.name, name) for file in RUNS for name in load_config(file).tasks]
WIDE = {file.name for file in CONFIGS.glob("*-published.toml")} | {"cmmd.toml", "cbis-ddsm.toml"}
"""Networks as their papers have them: a step of theirs takes ten seconds, however small the input."""
STEPS = [pytest.param(*task, marks=pytest.mark.slow if task[0] in WIDE else ()) for task in TASKS]
AT_SIZE = [
    pytest.param(file, name, marks=pytest.mark.slow)
    for file, name in TASKS
    if file in {"subtype-published.toml", "receptors-published.toml", "multitask-published.toml"}
]


def view(file, name):
    """The configuration as the task sees it, without weights that a file would have to bring."""
    config = load_config(CONFIGS / file)
    sections = {
        key: own.model_copy(update={"pretrained": "none"}) if "pretrained" in type(own).model_fields else own
        for key, own in config._sections.items()
    }
    return config.with_sections(sections).for_task(name)


def step(config, sides):
    """A step on noise over a batch of two; the sum of what the network answers stands for a loss."""
    learner = task_named(config.task).learner
    torch.manual_seed(0)
    model = learner.build_model(config)
    place_model(model, config)
    model.train()
    start = [item.detach().clone() for item in model.parameters()]
    optimiser = torch.optim.AdamW(model.parameters(), lr=config.training.learning_rate)
    noise = torch.rand(2, *sides).to(next(model.parameters()).device)
    outputs = model(in_layout(noise, config))
    torch.stack([output.float().mean() for output in outputs]).sum().backward()
    optimiser.step()
    assert all(bool(output.isfinite().all()) for output in outputs)
    assert any(not torch.equal(a, b) for a, b in zip(start, model.parameters(), strict=True))


@pytest.mark.parametrize(("file", "name"), STEPS)
def test_every_configuration_builds_its_networks_and_makes_a_step(file, name):
    config = view(file, name)
    channels, *sides = task_named(name).learner.shape(config)
    step(config, (channels, *(min(side, 48) for side in sides)))


@pytest.mark.parametrize(("file", "name"), AT_SIZE)
def test_the_published_classifiers_make_a_step_at_their_size(file, name):
    config = view(file, name)
    step(config, task_named(name).learner.shape(config))


def test_the_patches_of_a_recipe_fit_its_network_on_a_gpu():
    config = view("mama-mia.toml", "lesion-segmentation")
    multiple = task_named(config.task).learner.build_model(config).multiple
    assert not any(side % multiple for side in config.training.patch_voxels)
    assert 1 / 3 <= config.training.foreground_share <= 1 / 2
    assert config.training.augmentation.rotation_axes == "all"
    assert len(set(config.preprocessing.spacing_mm)) == 1  # turns about all axes are in voxels
