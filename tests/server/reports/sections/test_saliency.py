"""Where a network looks: the stored table's summary, in words and drawn; nothing where nothing was stored."""

import numpy as np
import pandas as pd
import pytest

from server.evaluation.saliency import DIFFERENCE, saliency_summary
from server.reports.metric_text import fixed
from server.reports.sections.saliency import READER, saliency
from server.reports.sections.task_section import explanation
from shared.cohort.labels import SUBTYPES
from shared.saliency import REGIONS
from shared.tasks.subtype_saliency import READERS
from tests.server.reports.invented_classifiers import RECEPTORS, finished, internal


@pytest.fixture
def stored(tmp_path):
    rng = np.random.default_rng(0)
    rows = [
        (
            f"centre-d-{case:03d}-e-L",
            f"centre-d-{case:03d}",
            SUBTYPES[case % 4],
            reader,
            region,
            rng.random() + 0.5,
            network,
        )
        for network in ("trained", "untrained")
        for case in range(16)
        for reader in READERS
        for region in REGIONS
    ]
    table = pd.DataFrame(rows, columns=["case", "patient", "subtype", "reader", "region", "value", "network"])
    (tmp_path / "predictions").mkdir()
    table.to_parquet(tmp_path / "predictions" / "saliency.parquet")
    return tmp_path, table


def test_the_difference_is_that_of_the_summary(stored):
    path, table = stored
    run = finished(None, internal(), path=path)
    part = saliency(run, run.task.explained)
    trained, untrained = (table[table["network"] == name].drop(columns="network") for name in ("trained", "untrained"))
    summary = saliency_summary(trained, run.config.evaluation, run.config.seed, untrained=untrained)
    row = summary[(summary["reader"] == READER) & (summary["subtype"] == DIFFERENCE)].iloc[0]
    assert (part["difference"]["value"], part["difference"]["n"]) == (fixed(row["value"], 2), 12)
    assert part["compared"] == "triple negative minus luminal"
    assert "Luminal A, n = 4" in part["svg"]
    assert part["maps"] == []


def test_a_run_or_a_task_without_explanations_has_none(stored, tmp_path):
    path, _ = stored
    assert explanation(finished(None, internal(), path=path))["template"] == "saliency.html"
    assert explanation(finished(None, internal(), path=tmp_path / "nowhere")) is None
    assert explanation(finished(None, [], RECEPTORS, path=path)) is None
