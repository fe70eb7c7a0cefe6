"""Invented classified cases, their rows and a section's page: what the tests of classifiers in the report share."""

import functools
import html
import re
from pathlib import Path

import jinja2
import numpy as np
import pandas as pd

from server.evaluation.classification_rows import classification_rows
from server.evaluation.metric_rows import internal_rows
from server.reports.sections import classification
from server.reports.sections.classification import classifier_section
from shared.config.sections import EvaluationConfig
from shared.metrics.score_sums import KI67, SUBTYPES, ClassificationSums

SETTINGS = EvaluationConfig(bootstrap=100)
TASK, BEST, CENTRE, END = "subtype-ensemble", "b" * 64, "centre-d", "federated:end-to-end"
RECEPTORS = "receptor-ki67-multitask"
ORACLE = {"luminal_a": 0.90, "luminal_b": 0.85, "her2_enriched": 0.88, "triple_negative": 0.93, "macro": 0.89}
THRESHOLDS = {"luminal_a": 0.3, "luminal_b": 0.3, "her2_enriched": None, "er": 0.5}
FOLDER = Path(classification.__file__).parent


def long(truth, score, *, label="er", arm="federated", model_hash=BEST, centre=CENTRE):
    cases = [f"{centre}-{index:03d}" for index in range(len(truth))]
    return pd.DataFrame({
        "case": cases, "patient": cases, "centre": centre, "arm": arm, "model_hash": model_hash, "label": label,
        "truth": np.asarray(truth, float), "score": np.asarray(score, float),
    })  # fmt: skip


def subtypes(arm="federated", *, seed=0, counts=(24, 20, 4, 12), **changes):
    """Sixty cases, of which four are HER2-enriched: too few to be ranked."""
    truth = np.repeat(np.arange(4), counts)
    logits = np.random.default_rng(seed).normal(0, 1, (len(truth), 4)) + np.eye(4)[truth]
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return pd.concat(
        [long(truth == i, scores[:, i], label=name, arm=arm, **changes) for i, name in enumerate(SUBTYPES)]
    )


def receptors(arm="federated", *, seed=0, ki67=True):
    rng = np.random.default_rng(seed)
    truths = np.random.default_rng(9).random((3, 60)) < 0.5
    parts = [
        long(t, 1 / (1 + np.exp(-rng.normal(t - 0.5, 1))), label=n, arm=arm)
        for n, t in zip(("er", "pr", "her2"), truths, strict=True)
    ]
    percent = np.random.default_rng(9).uniform(2, 70, 60)
    return pd.concat(
        [*parts, long(percent, percent * 0.6 + rng.normal(12, 6, 60), label=KI67, arm=arm)][: 4 if ki67 else 3]
    )


def external(table, task=TASK, **changes):
    options = {"thresholds": THRESHOLDS, "seed": 3, "role": "external"} | changes
    return classification_rows(table, SETTINGS, task=task, **options)


def internal(task=TASK, table=None):
    """Rows of three sites of 20 cases each, as the server makes them from sums."""
    cases = subtypes(seed=5) if table is None else table
    by_site, rows = {}, []
    for index, (_, case) in enumerate(cases.groupby("case")):
        found = ClassificationSums.of(case[["label", "truth", "score"]].itertuples(index=False, name=None))
        site = f"centre-{'abc'[index % 3]}"
        by_site[site] = by_site.get(site, ClassificationSums()) + found
    for role in ("validation", "test"):
        rows += internal_rows(by_site, SETTINGS, task=task, arm="federated", seed=3, role=role, model_hash=BEST)
    return rows


ALL = pd.concat([
    subtypes(), subtypes(END, seed=1),
    *(subtypes(f"federated:{name}", seed=2 + i) for i, name in enumerate(("axial", "coronal", "sagittal", "volume"))),
])  # fmt: skip


def section(table, rows, task=TASK, **changes):
    options = {"phantom": True, "centre": CENTRE} | changes
    return classifier_section(task, rows, table, BEST, SETTINGS, **options)


def render(*parts):
    """The sections in a page with the report's own style."""
    style = f"<style>{(FOLDER / 'style.css').read_text()}"
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    template = environment.from_string(
        '<!DOCTYPE html><meta charset="utf-8"><title>-</title>{{ style }}</style><main>'
        '{% for part in classifiers %}{% include "classifiers.html" %}{% endfor %}</main>'
    )
    return template.render(classifiers=parts, style=jinja2.utils.markupsafe.Markup(style))


def text_of(page):
    body = re.sub(r"<style.*?</style>|<svg.*?</svg>", "", page, flags=re.DOTALL)
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body)))


@functools.cache
def whole():
    """Rows, the section and its page of the subtype ensemble with everything that there can be."""
    rows = [*external(ALL, oracle=ORACLE), *internal()]
    part = section(ALL, rows)
    return rows, part, render(part)
