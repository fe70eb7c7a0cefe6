"""Long tables of invented scores and their rows: what the tests of classified cases and of compared arms share."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd

from server.evaluation.classification_rows import classification_rows
from shared.config.sections import EvaluationConfig
from shared.metrics.score_sums import SUBTYPES
from shared.reproducibility import derive_seed

GOLDEN = json.loads((Path(__file__).resolve().parents[2] / "golden" / "statistics.json").read_text())["delong"]
SETTINGS = EvaluationConfig(bootstrap=500)
WHO = {"task": "receptors", "seed": 3, "role": "external"}
DRAW = {"n": 500, "seed": derive_seed(3, "bootstrap", "centre-d")}


def long(truth, score, *, label="er", arm="federated", patients=None, centre="centre-d", model_hash="abc"):
    cases = [f"{centre}-{index:03d}" for index in range(len(truth))]
    return pd.DataFrame({
        "case": cases, "patient": patients or cases, "centre": centre, "arm": arm, "model_hash": model_hash,
        "label": label, "truth": np.asarray(truth, float), "score": np.asarray(score, float),
    })  # fmt: skip


def subtypes(n=80, *, seed=0, arm="federated", pull=1.0, classes=SUBTYPES, **changes):
    """Cases of random subtypes with softmax scores; the truth depends on `n` alone, the scores on the rest."""
    truth = np.random.default_rng(n).choice(classes, n)
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1, (n, 4)) + pull * (truth[:, None] == np.array(SUBTYPES))
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    parts = [long(truth == name, scores[:, i], label=name, arm=arm, **changes) for i, name in enumerate(SUBTYPES)]
    return truth, scores, pd.concat(parts, ignore_index=True)


def summarise(table, thresholds=None, **changes):
    rows = classification_rows(table, SETTINGS, thresholds=thresholds or {}, **(WHO | changes))
    found = {(row.arm, row.centre, row.model_hash, row.metric): row for row in rows}
    assert len(found) == len(rows)
    assert all(row.value is None or math.isfinite(row.value) for row in rows)
    return found


def by_metric(table, thresholds=None, **changes):
    return {key[3]: row for key, row in summarise(table, thresholds, **changes).items()}


def figure(row):
    return row.value, row.ci_low, row.ci_high


def pair(label="er"):
    """The golden vectors: arm `federated` answers `a`, arm `radiomics` `b`."""
    arms = {"federated": "a", "radiomics": "b"}
    return pd.concat([long(GOLDEN["truth"], GOLDEN[name], arm=arm, label=label) for arm, name in arms.items()])
