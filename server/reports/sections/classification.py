"""What the page says of one classifier: plain values for `classifiers.html`, from the task's rows and per-case table.

Every AUC stands beside its counts; with fewer than ten cases of a class it is shown and not ranked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from server.evaluation.external_classification import END_TO_END
from server.reports.sections.classification_data import FEWEST, judge, judge_at_node
from server.reports.sections.classification_figures import figures_of
from server.reports.sections.classification_tables import auc_table, differences
from server.reports.sections.classifier_sentence import sentence
from server.reports.sections.classifier_tables import ki67_table, site_tables, threshold_table
from server.run_folder.results import ResultRow
from shared.config.sections import EvaluationConfig

_TITLES = {
    "subtype-ensemble": "Molecular subtype",
    "subtype-radiomics": "Molecular subtype by radiomics",
    "receptor-status": "Receptor status",
    "receptor-ki67-multitask": "Receptors and Ki-67",
    "lesion-malignancy": "Malignancy",
}


def classifier_section(
    task: str,
    rows: Sequence[ResultRow],
    table: pd.DataFrame | None,
    best: str,
    config: EvaluationConfig,
    *,
    phantom: bool,
    centre: str | None,
    rivals: Mapping[str, pd.DataFrame] = {},
    told_by: str = "",
    at_node: bool = False,
) -> dict[str, Any]:
    """Everything that `classifiers.html` shows of one task, there called `part`.

    Parameters
    ----------
    task, rows
        The task and its rows: training sites from sums, the external centre from `classification_rows`; and the
        rivals' rows, under their arms.
    table
        Long per-case table of the external centre; `None` without one.
    best
        Hash of the chosen model: others in the rows and the table are left out.
    config
        Resamples and confidence; the tests of one arm against another are drawn anew.
    phantom
        Whether the data are phantoms: every caption says so.
    centre
        The external centre.
    rivals
        Other models' tables by arm, one answer a case and label; the same cases or some of them.
    told_by
        Task whose section has this model as a rival. What stands there is left out here and linked: AUCs, ROC curves
        and tests, unless this model was also read end to end, which only its own section shows.
    at_node
        Whether the centre judged at a node of its own: its figures stand in a section of their own.

    Raises
    ------
    RunError
        The table or the rows lack the chosen model's figures at the centre, or the rows a rival's.

    """
    judged = judge(rows, table, best, config, phantom=phantom, centre=centre, rivals=rivals)
    by_sums = judge_at_node(rows, best, config, phantom=phantom, centre=centre) if at_node else None
    told = judged or by_sums
    elsewhere = told_by if judged and END_TO_END not in judged.rows else ""
    return {
        "task": task,
        "anchor": anchor(task),
        "title": title(task),
        "confidence": f"{config.confidence:.0%}",
        "resamples": f"{config.bootstrap:,}",
        "fewest": FEWEST,
        "centre": centre,
        "phantom": phantom,
        "judged": judged is not None,
        "at_node": by_sums is not None,
        "elsewhere": {"anchor": anchor(elsewhere), "title": title(elsewhere)} if elsewhere else None,
        "sentence": sentence(told) if told else _unjudged(centre if at_node or table is not None else None),
        "scores": auc_table(judged) if judged and not elsewhere else None,
        "ki67": ki67_table(judged) if judged else [],
        "figures": figures_of(task, judged, compared=not elsewhere) if judged else [],
        "operating": threshold_table(judged) if judged else [],
        "tests": differences(judged) if judged and not elsewhere else None,
        "internal": site_tables(rows, best),
    }


def anchor(task: str) -> str:
    """Where on the page a task's section stands."""
    return f"classifier-{task}"


def title(task: str) -> str:
    """A task's name on the page."""
    return _TITLES.get(task, task.replace("-", " ").capitalize())


def _unjudged(centre: str | None) -> str:
    if centre is None:
        return "No external centre judged it: internal figures flatter."
    return f"No case at {centre} has a label of this task: nothing outside the training sites judged it."
