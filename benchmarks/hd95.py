"""HD95 on the lesion's box against MONAI's on the whole volume."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from timing import ratio

from shared.metrics.surface import hd95, surface_distances

SPACING = (2.4, 1.6, 1.6)


def main() -> None:
    """Check the value against MONAI's, then print the ratio."""
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance

    z, y, x = np.ogrid[:48, :72, :80]
    reference = ((z - 24) / 5) ** 2 + ((y - 30) / 8) ** 2 + ((x - 40) / 9) ** 2 <= 1
    prediction = ((z - 25) / 5) ** 2 + ((y - 32) / 8) ** 2 + ((x - 39) / 8) ** 2 <= 1

    def peer() -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            first, second = (torch.from_numpy(item)[None, None] for item in (prediction, reference))
            return float(compute_hausdorff_distance(first, second, percentile=95, spacing=list(SPACING)))

    def ours() -> float:
        return hd95(surface_distances(prediction, reference, SPACING))

    assert abs(ours() - peer()) < 0.5, (ours(), peer())
    ratio("hd95 (ours / MONAI)", ours, peer)


if __name__ == "__main__":
    main()
