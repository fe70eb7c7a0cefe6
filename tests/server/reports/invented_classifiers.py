"""Invented classified cases, their rows and a section's page: what the tests of scores in the report share."""

import functools
import html
import re
from pathlib import Path
from types import SimpleNamespace

import jinja2
import numpy as np
import pandas as pd

from server.evaluation.metric_rows import oracle_rows, sum_rows, table_rows
from server.reports import page
from server.reports.sections.external_data import external_data
from server.reports.sections.task_section import task_section
from server.reports.templates import environment
from server.run_folder.finished_run import FinishedTask
from server.run_folder.predictions import case_table
from server.run_folder.results import Provenance, Results, TrainedTask
from shared.cohort.labels import SUBTYPES
from shared.config.run_config import parse_config
from shared.evaluation import table_row
from shared.metrics.sums import Sums
from shared.models.ensemble_resnet import BRANCHES
from shared.tasks import task_named

TASK, BEST, CENTRE, END = "subtype-ensemble", "b" * 64, "centre-d", "federated:end-to-end"
RECEPTORS, MALIGNANCY = "receptor-ki67-multitask", "lesion-malignancy"
ORACLE = {"luminal_a": 0.90, "luminal_b": 0.85, "her2_enriched": 0.88, "triple_negative": 0.93, "macro": 0.89}
THRESHOLDS = {"luminal_a": 0.3, "luminal_b": 0.3, "her2_enriched": None, "er": 0.5}
FOLDER = Path(page.__file__).parent


def config(task=TASK, centre=CENTRE, **sections):
    data = {"root": "d", "sites": ["centre-a", "centre-b", "centre-c"]} | ({"external": centre} if centre else {})
    return parse_config(
        {"name": "t", "seed": 3, "tasks": [task], "data": data, "evaluation": {"bootstrap": 100}, **sections}, "t"
    ).for_task(task)


SETTINGS = config().evaluation


def cases(columns, *, arm="federated", model_hash=BEST, centre=CENTRE):
    """A per-case table, one patient for each case; `truth_er` and the like by column."""
    number = len(next(iter(columns.values())))
    names = [f"{centre}-{index:03d}-e-L" for index in range(number)]
    frozen = {f"threshold_{label}": value for label, value in THRESHOLDS.items() if f"score_{label}" in columns}
    rows = [
        table_row(
            SimpleNamespace(key=name), centre, arm, model_hash,
            {key: float(values[index]) for key, values in columns.items()}
            | (frozen if arm in {"federated", END} else {}),
        )
        for index, name in enumerate(names)
    ]  # fmt: skip
    return case_table(rows)


def subtypes(arm="federated", *, seed=0, counts=(24, 20, 4, 12), **changes):
    """Sixty cases, of which four are HER2-enriched: too few to be ranked."""
    truth = np.repeat(np.arange(4), counts)
    logits = np.random.default_rng(seed).normal(0, 1, (len(truth), 4)) + np.eye(4)[truth]
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    columns = {f"truth_{name}": truth == index for index, name in enumerate(SUBTYPES)}
    columns |= {f"score_{name}": scores[:, index] for index, name in enumerate(SUBTYPES)}
    return cases(columns, arm=arm, **changes)


def receptors(arm="federated", *, seed=0, labels=("er", "pr", "her2")):
    rng = np.random.default_rng(seed)
    columns = {}
    for name, truth in zip(("er", "pr", "her2"), np.random.default_rng(9).random((3, 60)) < 0.5, strict=True):
        scores = 1 / (1 + np.exp(-rng.normal(truth - 0.5, 1)))
        columns |= {f"truth_{name}": truth, f"score_{name}": scores} if name in labels else {}
    percent = np.random.default_rng(9).uniform(2, 70, 60)
    columns |= {"truth_ki67_percent": percent, "score_ki67_percent": percent * 0.6 + rng.normal(12, 6, 60)}
    return cases(columns, arm=arm)


def external(table, task=TASK, oracle=None):
    """Rows of the external centre as the server makes them from a table."""
    metrics, who = task_named(task).metrics, {"task": task, "seed": 3}
    rows = table_rows(table, metrics, SETTINGS, role="external", **who)
    return [*rows, *oracle_rows(oracle or {}, metrics, centre=CENTRE, **who)]


def summed(task, table):
    """The sums of a table's cases, as a site sends them."""
    rows = [task_named(task).sums(row) for row in table.to_dict("records")]
    return sum(rows, Sums())


def internal(task=TASK, table=None, model_hash=BEST):
    """Rows of three sites of 20 cases each, as the server makes them from sums."""
    table = subtypes(seed=5) if table is None else table
    by_site = {f"centre-{'abc'[part]}": summed(task, table.iloc[part::3]) for part in range(3)}
    rows = []
    for role in ("validation", "test"):
        rows += sum_rows(by_site, task_named(task), SETTINGS, seed=3, role=role, model_hash=model_hash)
    return rows


ALL = pd.concat(
    [
        subtypes(), subtypes(END, seed=1),
        *(subtypes(f"federated:{name}", seed=2 + i) for i, name in enumerate(BRANCHES)),
    ],
    ignore_index=True,
)  # fmt: skip


def finished(table, rows, task=TASK, *, best=BEST, phantom=True, centre=CENTRE, at_node=False, path=Path("run")):
    """A task of a finished run, without its folder."""
    provenance = Provenance(
        name="t", created="2026-01-02T03:04:05+00:00", git="", versions={}, seeds={}, seconds=1.0, peak_memory_mb=1.0,
        tasks={task: TrainedTask(best=best, final=best, best_round=1, rounds=1)}, phantom=phantom,
    )  # fmt: skip
    return FinishedTask(
        path=path, config=config(task, centre), config_text="", rounds=(), flow={}, predictions=table, at_node=at_node,
        results=Results(rows=tuple(rows), provenance=provenance),
    )  # fmt: skip


def evaluated(table, rows, task=TASK, **changes):
    return external_data(finished(table, rows, task, **changes))


def section(table, rows, task=TASK, others=(), **changes):
    run = finished(table, rows, task, **changes)
    return task_section(run, external_data(run, others), [run, *others])


def render(*parts, phantom=True):
    """The sections in a page with the report's own style."""
    template = environment().from_string(
        '<!DOCTYPE html><meta charset="utf-8"><title>-</title><style>{{ style }}</style><main>'
        '{% for part in sections %}{% include "task.html" %}{% endfor %}</main>'
    )
    style = jinja2.utils.markupsafe.Markup((FOLDER / "style.css").read_text())
    return template.render(sections=parts, style=style, phantom=phantom, confidence="95%", resamples="100")


def text_of(page):
    body = re.sub(r"<style.*?</style>|<svg.*?</svg>", "", page, flags=re.DOTALL)
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body)))


@functools.cache
def whole():
    """Rows, the section and its page of the subtype ensemble with everything that there can be."""
    rows = [*external(ALL, oracle=ORACLE), *internal()]
    part = section(ALL, rows)
    return rows, part, render(part)
