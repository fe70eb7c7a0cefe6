"""Which models are rivals on the same cases: the subtype ensemble, radiomics, and both fused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from server.evaluation.external_classification import ARM
from server.evaluation.late_fusion import FUSION, PARTS, TABLE
from server.reports.sections.classification import classifier_section
from server.reports.sections.classification_tables import RADIOMICS
from server.run_folder.finished_run import RunFolder
from server.run_folder.predictions import read_predictions
from server.run_folder.results import ResultRow
from shared.config.sections import SEGMENTATIONS

ENSEMBLE, LINEAR = PARTS


def classifier_sections(runs: Sequence[RunFolder]) -> list[dict[str, Any]]:
    """A section a classifier, in the order of training; where a run has both, the ensemble's tells of radiomics too."""
    linear = next((run for run in runs if run.task == LINEAR), None)
    rivalled = linear is not None and any(run.task == ENSEMBLE for run in runs)
    sections = []
    for run in runs:
        if run.task in SEGMENTATIONS:
            continue
        rows, rivals = rivals_of(run, linear) if linear and run.task == ENSEMBLE else ([], {})
        sections.append(
            classifier_section(
                run.task,
                [*run.results.rows, *rows],
                run.predictions,
                run.chosen.best,
                run.config.evaluation,
                phantom=run.results.provenance.phantom,
                centre=run.config.data.external,
                rivals=rivals,
                told_by=ENSEMBLE if rivalled and run.task == LINEAR else "",
                at_node=run.at_node,
            )
        )
    return sections


def rivals_of(ensemble: RunFolder, linear: RunFolder) -> tuple[list[ResultRow], dict[str, pd.DataFrame]]:
    """Stored rows of radiomics under their arm among rivals, and the rivals' tables; nothing without external cases.

    Raises
    ------
    RunError
        The results have a fusion and its table is missing.

    """
    best = linear.chosen.best
    rows = [
        row.model_copy(update={"arm": RADIOMICS})
        for row in linear.results.rows
        if (row.role, row.arm, row.model_hash) == ("external", ARM, best)
    ]
    if linear.predictions is None or not rows:
        return [], {}
    table = linear.predictions
    tables = {RADIOMICS: table[(table["arm"] == ARM) & (table["model_hash"] == best)]}
    if any(row.arm == FUSION for row in ensemble.results.rows):  # runs made before there was one have none
        tables[FUSION] = read_predictions(ensemble.path, TABLE)
    return rows, tables
