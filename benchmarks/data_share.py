"""Share of a training step that goes into batches: memory maps and augmentation against forward, backward and step."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from shared.batches import batches
from shared.config.run_config import load_config
from shared.tasks import task_named

SHAPE, STEPS = (48, 64, 80), 6


def main() -> None:
    """Print the share, with its range over steps."""
    torch.set_num_threads(1)
    config = load_config(Path("configs/quick.toml"))
    task = task_named(config.task)
    draws = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        cases = []
        for index in range(4):
            mask = np.zeros(SHAPE, np.uint8)
            mask[20:28, 20:32, 30:44] = 1
            np.save(f"{folder}/image-{index}.npy", draws.normal(size=(4, *SHAPE)).astype(np.float16))
            image = np.load(f"{folder}/image-{index}.npy", mmap_mode="r")
            cases.append(SimpleNamespace(image=image, mask=mask, foreground=np.argwhere(mask)))
        prepared = batches(cases, config, seed=0)
        model = task.learner.build_model(config).train()
        optimiser = torch.optim.AdamW(model.parameters())
        shares = []
        for _ in range(STEPS + 1):
            started = time.process_time()
            image, mask = next(prepared)
            loaded = time.process_time()
            optimiser.zero_grad()
            task.learner.loss(model(image), mask).backward()
            optimiser.step()
            done = time.process_time()
            shares.append((loaded - started) / (done - started))
    counted = np.array(shares[1:])
    low, middle, high = np.quantile(counted, [0, 0.5, 1])
    print(f"data_share: {middle:.3f} of a step (range {low:.3f} to {high:.3f}, {STEPS} steps)")


if __name__ == "__main__":
    main()
