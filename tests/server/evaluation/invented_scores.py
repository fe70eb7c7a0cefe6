"""Per-case tables of invented scores and their rows: what the tests of classified cases and of compared arms share."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd

from server.evaluation.metric_rows import table_rows
from server.run_folder.predictions import WHO as COLUMNS
from shared.config.sections import EvaluationConfig
from shared.metrics.paired_numbers import NumberPair
from shared.metrics.scores import label_metrics, macro_auc
from shared.reproducibility import derive_seed
from shared.tasks.classification import score_metrics

GOLDEN = json.loads((Path(__file__).resolve().parents[2] / "golden" / "statistics.json").read_text())["delong"]
SETTINGS = EvaluationConfig(bootstrap=500)
WHO = {"task": "receptors", "seed": 3, "role": "external"}
DRAW = {"n": 500, "seed": derive_seed(3, "bootstrap", "centre-d")}
CLASSES = ("luminal_a", "luminal_b", "her2_enriched", "triple_negative")
RECEPTORS = ("er", "pr", "her2", "malignant")
KI67 = "ki67_percent"
METRICS = (
    *(metric for label in (*CLASSES, *RECEPTORS) for metric in label_metrics(label, label)),
    macro_auc(dict.fromkeys(CLASSES, "")),
    *score_metrics((), (NumberPair("{}_ki67", "Ki-67", "%", (f"score_{KI67}", f"truth_{KI67}")),)),
)
AREAS = tuple(metric for metric in METRICS if metric.sent == "histogram")


def scored(truth, score, *, label="er", arm="federated", patients=None, centre="centre-d", model_hash="abc"):
    """One label of some cases."""
    cases = [f"{centre}-{index:03d}" for index in range(len(truth))]
    return pd.DataFrame({
        "case": cases, "patient": patients or cases, "centre": centre, "arm": arm, "model_hash": model_hash,
        f"truth_{label}": np.asarray(truth, float), f"score_{label}": np.asarray(score, float),
    })  # fmt: skip


def together(*tables):
    """Tables of several labels, arms and centres as one: one row for each case, arm and model."""
    merged = pd.concat(tables, ignore_index=True)
    return merged.groupby(list(COLUMNS), as_index=False, dropna=False).first()


def subtypes(n=80, *, seed=0, arm="federated", pull=1.0, classes=CLASSES, **changes):
    """Cases of random subtypes with softmax scores; the truth depends on `n` alone, the scores on the rest."""
    truth = np.random.default_rng(n).choice(classes, n)
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1, (n, 4)) + pull * (truth[:, None] == np.array(CLASSES))
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    parts = [scored(truth == name, scores[:, i], label=name, arm=arm, **changes) for i, name in enumerate(CLASSES)]
    return truth, scores, together(*parts)


def summarise(table, thresholds=None, **changes):
    frozen = {f"threshold_{label}": value for label, value in (thresholds or {}).items()}
    rows = table_rows(table.assign(**frozen).astype(dict.fromkeys(frozen, "float64")), METRICS, SETTINGS,
                      **(WHO | changes))  # fmt: skip
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
    return pd.concat([scored(GOLDEN["truth"], GOLDEN[name], arm=arm, label=label) for arm, name in arms.items()])
