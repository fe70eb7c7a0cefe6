"""Invented predictions of a study: what its statistics' tests share."""

import functools
import itertools

import numpy as np
import pandas as pd

from server.evaluation.study_statistics.analysis import analyse
from shared.cohort.labels import SUBTYPES
from shared.config.run_config import RunConfig
from shared.reproducibility import derive_seed

CENTRES = ("a", "b", "c")
EFFECTS = {"federated": 0.08, "pooled": 0.1, "ensemble": 0.03, "local": 0.0}
NULL = dict.fromkeys(EFFECTS, 0.0)


def settings(*tasks, bootstrap=100):
    return RunConfig.model_validate({
        "name": "invented",
        "tasks": list(tasks or ["lesion-segmentation"]),
        "data": {"root": "data", "sites": ["a", "b"], "external": "c"},
        "evaluation": {"bootstrap": bootstrap},
    })  # fmt: skip


def cohort(sizes=(14, 16, 18), centres=CENTRES):
    """Cases of every centre; each seventh patient has two."""
    rows = []
    for centre, size in zip(centres, sizes, strict=False):
        rng = np.random.default_rng(size)
        for number in range(size):
            for side in ("L", "R") if number % 7 == 3 else ("L",):
                patient = f"{centre}-p{number:03d}"
                rows.append({
                    "case": f"{patient}-e-{side}", "patient": patient, "centre": centre,
                    "manufacturer": ["GE", "SIEMENS", ""][number % 3],
                    "field_strength_t": [1.5, 3.0, np.nan][number % 3],
                    "density": "abcd"[number % 4], "age_band": ["<50", "50-69", ">=70"][number % 3],
                    "reference_volume_ml": float(np.round(np.exp(rng.normal(0.5, 0.8)), 3)),
                    "hard": float(rng.normal(0, 0.1)), "subtype": SUBTYPES[int(rng.integers(4))],
                })  # fmt: skip
    return pd.DataFrame(rows)


def answered(cases, seeds=(0,), arms=("federated", "local"), folds=None, roles=("external",)):
    """Who answers which case: `role, held_out, seed, arm, model_hash`, the case's row and a draw of its own."""
    centres, parts = list(dict.fromkeys(cases["centre"])), []
    for fold in folds or centres:
        test = (cases["centre"] != fold) & (cases.groupby("centre").cumcount() < 6)
        for role in roles:
            chosen = cases[cases["centre"] == fold] if role == "external" else cases[test]
            named = [f"local:{site}" for site in centres if site != fold] if "local" in arms else []
            for seed, arm in itertools.product(seeds, [*(arm for arm in arms if arm != "local"), *named]):
                kind, _, site = arm.partition(":")
                place = centres.index(site) if site else -1
                rng = np.random.default_rng(derive_seed(centres.index(fold), role, seed, kind, place + 1))
                who = {"role": role, "held_out": fold, "seed": seed, "arm": arm}
                who["model_hash"] = f"{arm}-{fold}-{seed}"
                parts.append(chosen.assign(**who, noise=rng.normal(0, 1, len(chosen))))
    return pd.concat(parts, ignore_index=True)


def outlined(cases, effects=EFFECTS, noise=0.06, **who):
    """A table of lesion outlines: Dice is 0.7 and the arm's effect, each eleventh case of a model fails."""
    table = answered(cases, **who)
    effect = table["arm"].str.split(":").str[0].map(effects)
    dice = (0.7 + effect + table["hard"] + noise * table["noise"]).clip(0.05, 0.98)
    failed = (table["noise"] > 1.8).to_numpy()
    volume = table["reference_volume_ml"] * (1 + 0.2 * table["noise"]).clip(lower=0.1)
    figures = {
        "dice": dice.where(~failed, 0.0), "nsd": (dice + 0.01).where(~failed, 0.0),
        "sensitivity": dice.where(~failed, 0.0), "ppv": dice.where(~failed),
        "hd95_mm": (20 * (1 - dice)).where(~failed), "assd_mm": (5 * (1 - dice)).where(~failed),
        "centroid_distance_mm": (10 * (1 - dice)).where(~failed), "volume_ml": volume.where(~failed, 0.0),
        "voxels_tp": 10, "voxels_fp": 1, "voxels_fn": 1,
        "lesions_tp": (dice > 0.6) & ~failed, "lesions_fp": table["noise"] > 1.2, "lesions_fn": (dice <= 0.6) | failed,
        "failed": failed,
    }  # fmt: skip
    table = table.assign(**figures).astype(dict.fromkeys(["lesions_tp", "lesions_fp", "lesions_fn"], "int64"))
    return table[[*WHO, "reference_volume_ml", *figures]]


WHO = ["case", "patient", "centre", "arm", "model_hash", "role", "seed", "held_out"]


def scored(cases, effects=EFFECTS, labels=SUBTYPES, threshold=None, **who):
    """A table of scores, of subtypes by default; an arm's effect pulls its scores towards the truth.

    With a threshold every model has it as its operating point, for each label; the ensemble has none.
    """
    table = answered(cases, **who)
    effect = table["arm"].str.split(":").str[0].map(effects)
    figures = {}
    for number, label in enumerate(labels):
        truth = (table["subtype"] == label).astype(float) if label in SUBTYPES else (table["hard"] > 0).astype(float)
        rng = np.random.default_rng(number)
        logit = (0.5 + 10 * effect) * (truth - 0.5) + rng.normal(0, 1, len(table)) * (1 + 0.1 * table["noise"])
        figures |= {f"truth_{label}": truth, f"score_{label}": 1 / (1 + np.exp(-logit))}
        if threshold is not None:
            figures[f"threshold_{label}"] = np.where(table["arm"] == "ensemble", np.nan, threshold)
    return table.assign(**figures)[[*WHO, *figures]]


def tissues(cases, **who):
    """A table of tissue masks; every fifth case has none."""
    table = answered(cases, **who)
    table = table[~table["case"].str.contains("[05]-e")].reset_index(drop=True)
    figures = {}
    for structure, level in (("breast", 0.93), ("fibroglandular", 0.8)):
        dice = (level + 0.02 * table["noise"]).clip(0, 1)
        figures |= {f"dice_{structure}": dice, f"hd95_mm_{structure}": 9 * (1 - dice), f"nsd_{structure}": dice}
        figures |= {f"volume_ml_{structure}": 90 * dice, f"reference_volume_ml_{structure}": 90.0}
    dense = 20 + 100 * table["hard"]
    figures |= {"density_percent": dense + table["noise"], "reference_density_percent": dense}
    return table.assign(**figures)[[*WHO, *figures]]


def study(table, cases, task="lesion-segmentation", **changes):
    return analyse({task: table}, cases, settings(task, **changes))


@functools.cache
def outlines():
    return outlined(cohort(), seeds=(0, 1), arms=("federated", "ensemble", "local"))


@functools.cache
def outline_study():
    return study(outlines(), cohort())


def only(table, **where):
    """The one row of a table with these cells."""
    found = table[np.logical_and.reduce([table[name] == value for name, value in where.items()])]
    assert len(found) == 1, (where, len(found))
    return found.iloc[0]


def by_hand(rows):
    """A table of outlines from `(case, arm, seed, dice)` and, as a fifth, HD95; the centre is the case's first part."""
    made = []
    for case, arm, seed, dice, *more in rows:
        centre, patient = case.split("-")[0], case.rsplit("-", 2)[0]
        who = dict(zip(WHO, (case, patient, centre, arm, f"{arm}-{seed}", "external", seed, centre), strict=True))
        shares = dict.fromkeys(("dice", "nsd", "sensitivity", "ppv"), dice)
        distances = dict.fromkeys(("hd95_mm", "assd_mm", "centroid_distance_mm"), more[0] if more else 1.0)
        volumes = {"volume_ml": 1.0 + dice, "reference_volume_ml": 2.0, "failed": False}
        made.append(who | shares | distances | volumes | {"lesions_tp": 1, "lesions_fp": 0, "lesions_fn": 0})
    return pd.DataFrame(made)


NO_COHORT = pd.DataFrame({"case": []}, dtype="str")
