"""A study's folder with invented figures: four centres held out in turn, two seeds, an outline and a classifier."""

import json
import math
from itertools import product

import numpy as np
import pandas as pd

from server.run_folder.format import write_format
from server.run_folder.pictures import picture_path, store_planes
from server.run_folder.study_tables import write_tables
from server.run_folder.volumes import store_volume
from tests.server.reports.study.invented_tables import CENTRES, SEEDS, tables

SEGMENTATION, CLASSIFIER = "lesion-segmentation", "receptor-status"
LABELS = ("er", "her2")
KINDS = ("local", "federated", "pooled", "ensemble")
SKILL = {"federated": 0.72, "pooled": 0.75, "ensemble": 0.68, "local": 0.60}
ROUNDS = 5
CONFIG = """
name = "leave-one-out"
tasks = [{tasks}]

[data]
root = "data/phantom"
sites = ["centre-a", "centre-b", "centre-c"]
external = "centre-d"

[federation]
rounds = 5

[evaluation]
bootstrap = 400

[study]
seeds = [0, 1]
arms = [{arms}]
"""


def make_study(folder, tasks=(SEGMENTATION, CLASSIFIER), *, phantom=True, kinds=KINDS, labels=LABELS):
    """Write the folder and return its path; a classifier's cells of `centre-d` are thin."""
    rng = np.random.default_rng(7)
    (folder / "predictions").mkdir(parents=True)
    write_format(folder)
    (folder / "study.toml").write_text(CONFIG.format(tasks=quoted(tasks), arms=quoted(kinds)))
    cohort = invented_cohort(rng)
    cohort.to_parquet(folder / "cohort.parquet", index=False)
    cells = [
        {
            "task": task, "held_out": held_out, "arm": arm, "seed": seed, "best_round": 4, "rounds": ROUNDS,
            "seconds": 61.5, "model_hash": model_hash(task, held_out, arm, seed),
        }
        for task, held_out, seed in product(tasks, CENTRES, SEEDS)
        for arm in arms(held_out, kinds)
    ]  # fmt: skip
    (folder / "cells.json").write_text(json.dumps(cells))
    opened = {
        name: {
            "at": f"2026-01-02T0{index}:00:00+00:00",
            "models": [cell["model_hash"] for cell in cells if cell["held_out"] == name],
        }
        for index, name in enumerate(CENTRES)
    }
    (folder / "opened.json").write_text(json.dumps(opened))
    flow = {
        name: {
            "included": 20,
            "excluded": {"missing_phase": index, "empty_mask": 1} if index else {},
            "splits": {"train": 12, "validation": 4, "test": 4},
        }
        for index, name in enumerate(CENTRES)
    }
    (folder / "flow.json").write_text(json.dumps(flow))
    provenance = {
        "name": "leave-one-out-0",
        "created": "2026-01-02T03:04:05+00:00",
        "git": "0123abc",
        "versions": {"torch": "2.13.0", "flwr": "1.42.0"},
        "phantom": phantom,
        "seconds": 5025.0,
        "machine": {"cores": 2, "memory_gb": 16},
        "plans": {name: f"{index:064x}" for index, name in enumerate(CENTRES)},
        "data": {name: f"{index + 10:064x}" for index, name in enumerate(CENTRES)},
    }
    (folder / "provenance.json").write_text(json.dumps(provenance))
    curves(rng, cells).to_parquet(folder / "curves.parquet", index=False)
    predictions = {
        task: (outlined if task == SEGMENTATION else scored)(rng, cohort, task, kinds, labels) for task in tasks
    }
    for task, table in predictions.items():
        table.to_parquet(folder / "predictions" / f"{task}.parquet", index=False)
    write_tables(folder, tables(predictions, cohort))
    if SEGMENTATION in tasks:
        picture(folder, rng, cohort)
    return folder


def quoted(names):
    return ", ".join(f'"{name}"' for name in names)


def arms(held_out, kinds):
    together = [name for name in ("federated", "pooled") if name in kinds]
    return together + [f"local:{name}" for name in CENTRES if name != held_out]


def model_hash(*parts):
    return f"{abs(hash_of('/'.join(map(str, parts)))):064x}"


def hash_of(text):
    return sum(ord(letter) * 131**index for index, letter in enumerate(text)) % 2**250


def invented_cohort(rng):
    rows = []
    for place, name in enumerate(CENTRES):
        for index in range(20):
            patient = f"{name}-{index:010x}"
            rows.append(
                {
                    "case": f"{patient}-00000e-L",
                    "patient": patient,
                    "centre": name,
                    "manufacturer": ("vendor-x", "vendor-y")[place % 2],
                    "field_strength_t": (1.5, 3.0)[place // 2],
                    "density": "abcd"[int(rng.integers(4))],
                    "age_band": ("<50", "50-69", ">=70", "")[int(rng.integers(4))],
                    "reference_volume_ml": float(np.exp(rng.normal(0.6, 0.8))),
                    "subtype": ("luminal_a", "luminal_b", "her2_enriched", "triple_negative", "")[int(rng.integers(5))],
                    "er": float(rng.random() < (0.6 if name != "centre-d" else 0.9)),
                    "pr": float(rng.random() < 0.5),
                    "her2": float(rng.random() < 0.25),
                    "ki67_percent": float(rng.uniform(5, 60)) if rng.random() < 0.9 else math.nan,
                    "malignant": 1.0,
                }
            )
    return pd.DataFrame(rows)


def evaluated(cohort, kinds):
    """Which model answers which cases: its fold's centre, and test cases of the centres that trained it."""
    for held_out, seed in product(CENTRES, SEEDS):
        for arm in arms(held_out, kinds) + ["ensemble"] * ("ensemble" in kinds):
            yield held_out, seed, arm, "external", cohort[cohort["centre"] == held_out]
            trained = [arm.removeprefix("local:")] if ":" in arm else [name for name in CENTRES if name != held_out]
            for name in trained:
                yield held_out, seed, arm, "test", cohort[cohort["centre"] == name].tail(4)


def outlined(rng, cohort, task, kinds, _):
    parts = []
    hard = cohort.set_index("case")["reference_volume_ml"].rank(pct=True) * 0.2 - 0.1
    for held_out, seed, arm, role, cases in evaluated(cohort, kinds):
        n = len(cases)
        skill = SKILL[arm.split(":")[0]] + (0.1 if role == "test" and ":" in arm else 0.0)
        dice = np.clip(skill + hard[cases["case"]].to_numpy() + rng.normal(0, 0.08, n), 0.02, 0.97)
        reference = cases["reference_volume_ml"].to_numpy()
        parts.append(
            pd.DataFrame(
                {
                    "case": cases["case"].to_numpy(), "patient": cases["patient"].to_numpy(),
                    "centre": cases["centre"].to_numpy(), "arm": arm,
                    "model_hash": "" if arm == "ensemble" else model_hash(task, held_out, arm, seed),
                    "dice": dice, "nsd": np.clip(dice + 0.05, 0, 1), "sensitivity": dice, "ppv": dice,
                    "hd95_mm": 20 * (1 - dice), "assd_mm": 5 * (1 - dice), "centroid_distance_mm": 9 * (1 - dice),
                    "volume_ml": reference * np.exp(rng.normal(-0.05, 0.2, n)), "reference_volume_ml": reference,
                    "lesions_tp": 1, "lesions_fp": rng.integers(0, 2, n), "lesions_fn": 0, "failed": False,
                    "role": role, "seed": seed, "held_out": held_out,
                }
            )
        )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def scored(rng, cohort, task, kinds, labels):
    parts = []
    for held_out, seed, arm, role, cases in evaluated(cohort, kinds):
        figures = {}
        for label in labels:
            truth = cases[label].to_numpy(float)
            lift = 3 * (SKILL[arm.split(":")[0]] - 0.45)
            score = 1 / (1 + np.exp(-(rng.normal(0, 1, len(cases)) + lift * (truth - 0.5) * 2)))
            figures |= {f"truth_{label}": truth, f"score_{label}": score}
            figures[f"threshold_{label}"] = 0.48 if label == "er" and arm != "ensemble" else math.nan
        parts.append(
            pd.DataFrame(
                {
                    "case": cases["case"].to_numpy(), "patient": cases["patient"].to_numpy(),
                    "centre": cases["centre"].to_numpy(), "arm": arm,
                    "model_hash": "" if arm == "ensemble" else model_hash(task, held_out, arm, seed),
                    **figures, "role": role, "seed": seed, "held_out": held_out,
                }
            )
        )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def curves(rng, cells):
    rows = [
        {name: cell[name] for name in ("task", "held_out", "arm", "seed")}
        | {
            "round": number,
            "loss": 1.2 / number + rng.normal(0, 0.02),
            "score": SKILL[cell["arm"].split(":")[0]] * (1 - 0.6**number) + rng.normal(0, 0.01),
            "n": 4 if ":" in cell["arm"] else 12,
        }
        for cell in cells
        for number in range(1, ROUNDS + 1)
    ]
    return pd.DataFrame(rows)


def picture(folder, rng, cohort):
    """The worst case of the first centre alone: panels take longest to draw."""
    grid = np.moveaxis(np.indices((24, 48, 48)), 0, -1) * np.array((3.0, 1.5, 1.5))
    case = cohort.loc[cohort["centre"] == CENTRES[0], "case"].iloc[0]
    reference = ((grid - 36.0) ** 2).sum(-1) < 9.0**2
    image = np.stack([np.zeros(reference.shape), reference * 2.0 + rng.normal(0, 0.3, reference.shape)])
    masks, spacing = {"reference": reference, "prediction": np.roll(reference, 2, axis=2)}, (3.0, 1.5, 1.5)
    planes = {"image": image[1].astype(np.float32)} | {name: mask.astype(np.uint8) for name, mask in masks.items()}
    path = picture_path(folder, SEGMENTATION, "worst", CENTRES[0])
    store_planes(path, case, planes, spacing=spacing, field_mm=90.0)
    path = folder / "volumes" / SEGMENTATION / f"{CENTRES[0]}-worst.npz"
    store_volume(path, case, "worst", image=image[1], spacing=spacing, **masks)
