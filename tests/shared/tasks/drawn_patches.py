"""Lesion patches that are drawn, and the cases that a classifier's training reads."""

import numpy as np

from shared.cohort.labels import CaseLabels
from shared.config.run_config import parse_config
from shared.tasks import receptors, subtype_ensemble
from shared.tasks.patches import PatchCase

SMALL = {"patch": {"voxels": [16, 16, 16]}, "training": {"batch_size": 4, "steps_per_round": 3, "weight_decay": 0.5}}
RAW = {
    "name": "t",
    "tasks": ["subtype-ensemble", "receptor-status", "receptor-ki67-multitask", "lesion-malignancy"],
    "data": {"root": "d", "sites": ["a"]},
    "preprocessing": {"post_phases": 2},
    "subtype_ensemble": SMALL
    | {"plane_depth": 10, "plane_width": 4, "volume_depth": 10, "volume_width": 4, "pretrained": "none"},
    "receptor_status": SMALL,
    "receptor_ki67_multitask": SMALL,
    "lesion_malignancy": SMALL,
}
CONFIG = parse_config(RAW, "t")
LUMINAL_A = CaseLabels(er=True, pr=True, her2=False, ki67_percent=8.0, subtype="luminal_a", malignant=True)
TRIPLE = CaseLabels(er=False, pr=False, her2=False, ki67_percent=60.0, subtype="triple_negative", malignant=True)
NO_KI67 = CaseLabels(er=True, pr=True, her2=False, malignant=True)


def changed(task, **options):
    """The configuration as a task sees it, its own section changed."""
    key = task.replace("-", "_")
    return parse_config(RAW | {key: RAW.get(key, {}) | options}, "t").for_task(task)


def patch(seed, radius=5.0):
    draws = np.random.default_rng(seed)
    z, y, x = np.ogrid[-7.5:8.5, -7.5:8.5, -7.5:8.5]
    distance = np.clip(radius + draws.uniform(-2, 2) - np.sqrt(z**2 + y**2 + x**2), -20, 20)
    image = draws.normal(0.5, 0.2, (3, 16, 16, 16))
    image[1] += 2.0 * (distance > 0)
    return np.concatenate([image, distance[None]]).astype(np.float32)


def opened(task, labels, count=6):
    view = CONFIG.for_task(task)
    target = {
        "subtype-ensemble": subtype_ensemble.target,
        "receptor-status": receptors.target,
        "receptor-ki67-multitask": receptors.target_with_ki67,
    }[task]
    cases = []
    for number in range(count):
        own = labels[number % len(labels)]
        values, stratum = target(own, view)
        case = PatchCase(f"c{number}", None, values, stratum, own)
        case.__dict__["patch"] = patch(number)
        cases.append(case)
    return cases
