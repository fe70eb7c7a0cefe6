"""The recipes for a GPU at their size, on made cases: seconds a step, memory, and what each setting is worth.

    python benchmarks/recipes.py                        # all checks on a GPU, about eight minutes; else says so
    python benchmarks/recipes.py --cpu mama-mia         # one recipe's steps on the CPU; mama-mia needs some 16 GB

Through `shared.training.train_round` and `shared.inference.predict_structures`, as in a run. On a GPU it asserts
that batches are the same with any number of processes and that half precision outlines the same (Dice 0.99), tells what
each recipe takes of the GPU (`compute.gpu_memory_gb`), and prints what `channels_last`, half precision and
`torch.compile`, which no setting switches on, are worth.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from shared.batches import batches
from shared.cohort.labels import CaseLabels
from shared.config.run_config import RunConfig, load_config
from shared.inference import pick_device, predict_structures
from shared.tasks import task_named
from shared.training import train_round

RECIPES = ("mama-mia", "subtype-published", "receptors-published", "multitask-published")
TARGETS = {"subtype-ensemble": (0.0, 1.0, 0.0, 0.0), "receptor-status": (1.0, 0.0, 1.0)}


def main() -> None:
    """Run the recipes' steps; on a GPU also the comparisons."""
    parser = argparse.ArgumentParser()
    parser.add_argument("recipes", nargs="*", default=list(RECIPES))
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--voxels", type=int, help="edge of mama-mia's patch in place of its own")
    options = parser.parse_args()
    if not options.cpu and not torch.cuda.is_available():
        print("recipes: skipped, there is no GPU; --cpu NAME runs one recipe's steps without")
        return
    for name in options.recipes:
        config = recipe(name, options.steps, "cpu" if options.cpu else "cuda", options.voxels)
        cases = made_cases(config)
        steps(name, config, cases)
        if not options.cpu and name == "mama-mia":
            compare(config, cases)


def recipe(name: str, number: int, device: str, voxels: int | None) -> RunConfig:
    """A recipe's configuration for so many steps a round, without pretrained weights."""
    config = load_config(Path(f"configs/{name}.toml"))
    sections = {
        key: own.model_copy(update={"pretrained": "none"}) if "pretrained" in type(own).model_fields else own
        for key, own in config._sections.items()  # noqa: SLF001 - no setting of a run
    }
    view = config.with_sections(sections).for_task(config.task)
    update: dict[str, Any] = {"steps_per_round": number}
    if voxels:
        update["patch_voxels"] = (voxels,) * 3
    return changed(changed(view, "training", **update), "compute", device=device)


def changed(config: RunConfig, section: str, **values: object) -> RunConfig:
    """The same configuration with other values in a section."""
    return config.model_copy(update={section: getattr(config, section).model_copy(update=values)})


def made_cases(config: RunConfig) -> list[Any]:
    """Eight cases as the task's loop reads them: breasts of 16 x 18 x 18 cm with a bright ball, or noisy patches."""
    draws = np.random.default_rng(0)
    if config.task != "lesion-segmentation":
        shape = task_named(config.task).learner.shape(config)
        target = TARGETS.get(config.task, (1.0, 0.0, 1.0, 2.0))
        return [
            SimpleNamespace(
                patch=draws.normal(size=shape).astype(np.float32), target=target, weight=1.0, labels=labels(config)
            )
            for _ in range(8)
        ]
    edge = config.training.patch_voxels[0]
    shape, cases = (edge + 32, edge + 48, edge + 48), []
    grid = np.indices(shape, np.float32)
    for _ in range(8):
        centre = draws.uniform(0.3, 0.7, 3) * shape
        mask = (sum((axis - place) ** 2 for axis, place in zip(grid, centre, strict=True)) < 12**2).astype(np.uint8)
        image = draws.normal(0, 0.2, (config.preprocessing.channels, *shape)).astype(np.float16)
        image[1:] += mask
        known = CaseLabels(None, None, None, None, None, None, None)
        cases.append(SimpleNamespace(image=image, mask=mask, foreground=np.argwhere(mask), labels=known))
    return cases


def labels(config: RunConfig) -> CaseLabels:
    """Labels of every task, so that no branch is left as it was."""
    del config
    return CaseLabels(er=True, pr=False, her2=True, ki67_percent=20.0, subtype="luminal_b", malignant=True)


def steps(name: str, config: RunConfig, cases: Sequence[Any]) -> float:
    """Print seconds of a step once the first ones are done, memory and loss; return the seconds."""
    model = task_named(config.task).learner.build_model(config)
    on_gpu = pick_device(config).type == "cuda"
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        train_round(model, cases, config, round_number=1, site="warm")
    summary = train_round(model, cases, config, round_number=1, site="bench")
    assert np.isfinite(summary.loss)
    taken = torch.cuda.max_memory_reserved() / 1e9 if on_gpu else 0.0
    parameters = sum(item.numel() for item in model.parameters()) / 1e6
    second = summary.seconds / summary.steps
    memory = f", up to {taken:.1f} GB of the GPU (the recipe says {config.compute.gpu_memory_gb})" if on_gpu else ""
    print(f"{name}: {parameters:.1f} M parameters, {second:.2f} s a step, loss {summary.loss:.3f}{memory}", flush=True)
    return second


def compare(config: RunConfig, cases: Sequence[Any]) -> None:
    """What processes, layout, half precision and compilation are worth on a GPU, and that results agree."""
    long = changed(config, "training", steps_per_round=12)
    one, six = (
        list(batches(cases, changed(long, "compute", loader_workers=number), seed=1, pinned=True)) for number in (1, 6)
    )
    same = (
        torch.equal(a, b) for first, second in zip(one, six, strict=True) for a, b in zip(first, second, strict=True)
    )
    assert all(same)
    for number in (0, 1, 6, 12):
        steps(f"  loader_workers = {number}", changed(long, "compute", loader_workers=number), cases)
    steps("  channels_last", changed(long, "compute", channels_last=True), cases)
    steps("  mixed_precision = off", changed(long, "training", mixed_precision="off"), cases)
    model = task_named(config.task).learner.build_model(config)
    train_round(model, cases, changed(config, "training", steps_per_round=60), round_number=1, site="bench")
    outlines, seconds = [], []
    for precision in ("off", "auto"):
        view = changed(config, "inference", mixed_precision=precision)
        predict_structures(model, cases[0].image, view)
        started = time.perf_counter()
        outlines.append(predict_structures(model, cases[0].image, view)[0] >= config.inference.threshold)
        seconds.append(time.perf_counter() - started)
    total = int(outlines[0].sum() + outlines[1].sum())
    dice = 2 * int((outlines[0] & outlines[1]).sum()) / total if total else 1.0
    print(f"  outlining a case: {seconds[0]:.2f} s, in half precision {seconds[1]:.2f} s; Dice of the two {dice:.4f}")
    assert dice > 0.99
    compiled(config)


def compiled(config: RunConfig) -> None:
    """Seconds of forward and backward with and without `torch.compile`, and how far the outputs are apart."""
    model = task_named(config.task).learner.build_model(config).cuda().train()
    noise = torch.rand(2, config.preprocessing.channels, *config.training.patch_voxels, device="cuda")
    told, answers = [], []
    for network in (model, torch.compile(model)):
        for _ in range(4):
            torch.cuda.synchronize()
            started = time.perf_counter()
            with torch.autocast("cuda", dtype=torch.bfloat16):
                outputs = network(noise)
            torch.stack([item.float().mean() for item in outputs]).sum().backward()
            torch.cuda.synchronize()
            last = time.perf_counter() - started
        told.append(last)
        answers.append(outputs[0].float().detach())
    apart = float((answers[0] - answers[1]).abs().max())
    print(f"  torch.compile: {told[1] / told[0]:.2f} of the time, logits at most {apart:.3g} apart")


if __name__ == "__main__":
    main()
