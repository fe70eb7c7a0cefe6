"""Whole-breast inference against MONAI's sliding window over the same box, with the agreement of the two."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from monai.inferers.utils import sliding_window_inference
from timing import ratio

from shared.config.run_config import load_config
from shared.inference import predict_structures
from shared.tasks import task_named

SHAPE = (48, 64, 80)


def main() -> None:
    """Print the ratio; the masks of a random network must agree where both see the whole box."""
    torch.set_num_threads(1)
    config = load_config(Path("configs/quick.toml"))
    model = task_named(config.task).learner.build_model(config).eval()
    image = np.random.default_rng(0).normal(size=(4, *SHAPE)).astype(np.float32)
    single = config.model_copy(update={"inference": config.inference.model_copy(update={"flip_averaging": False})})

    def peer(roi: tuple[int, int, int]) -> np.ndarray:
        with torch.inference_mode():
            volume = torch.from_numpy(image)[None]
            logits = sliding_window_inference(volume, roi, 1, lambda x: model(x)[0], overlap=0.5, mode="gaussian")
        return torch.sigmoid(logits)[0, 0].numpy()

    ours = predict_structures(model, image, single)[0]
    assert np.allclose(ours, peer(SHAPE), atol=1e-5), "one window must equal the single pass"
    name = "infer (flip-averaged whole breast / MONAI windows 32x48x48)"
    ratio(name, lambda: predict_structures(model, image, config), lambda: peer((32, 48, 48)))


if __name__ == "__main__":
    main()
