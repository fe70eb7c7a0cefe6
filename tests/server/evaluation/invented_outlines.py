"""Cases of outlined lesions as rows of a per-case table: what the tests of rows and of results share."""

from types import SimpleNamespace

import numpy as np

from server.run_folder.predictions import case_table
from shared.evaluation import table_row
from shared.metrics.detection import detections


def metrics(dice, volume, reference, **changes):
    values = {
        "dice": dice, "nsd": dice, "sensitivity": dice, "specificity": 0.99, "ppv": dice if volume else None,
        "hd95_mm": 10 * (1 - dice) if volume else None, "assd_mm": 2.0 if volume else None,
        "centroid_distance_mm": 1.0 if volume else None, "volume_ml": volume, "reference_volume_ml": reference,
        "voxels_tp": 10, "voxels_fp": 2, "voxels_fn": 3,
        "lesions_tp": int(dice > 0), "lesions_fp": 0, "lesions_fn": int(dice == 0),
    }  # fmt: skip
    return values | changes | {"failed": float((volume == 0) != (reference == 0))}


CASES = {
    "centre-d-aaaaaaaaaa-000001-L": metrics(0.9, 4.0, 4.1),
    "centre-d-aaaaaaaaaa-000001-R": metrics(0.8, 2.0, 1.5, lesions_fp=2),
    "centre-d-bbbbbbbbbb-000001-L": metrics(0.7, 9.0, 8.0),
    "centre-d-cccccccccc-000001-L": metrics(0.0, 0.0, 3.0),  # nothing predicted: a failure
    "centre-d-dddddddddd-000001-R": metrics(0.6, 1.0, 2.0),
}


def row(case):
    """The columns of a case; its lesions and its extra pieces are detected with certainties that differ."""
    certainty = np.array([0.9] * case["lesions_tp"] + [0.7] * case["lesions_fp"])
    matched = np.arange(len(certainty)) < case["lesions_tp"]
    return case | detections(certainty, matched, case["lesions_tp"] + case["lesions_fn"], 0.5)


def table(cases=CASES, *, centre="centre-d", arm="federated", model_hash="abc"):
    keyed = ((SimpleNamespace(key=key), case) for key, case in cases.items())
    return case_table(table_row(case, centre, arm, model_hash, row(figures)) for case, figures in keyed)
