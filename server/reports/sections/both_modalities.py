"""MRI and mammography fused, a section for each pair of tasks: on the breasts of both, the fusion beside each alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from server.evaluation.modality_fusion import modality_pairs, pair_name, shared_breasts
from server.reports.metric_text import counted, listed, with_interval
from server.reports.sections.external_data import FEWEST, ExternalData
from server.reports.sections.scores import auc_table, differences
from server.run_folder.arms import FEDERATED, FUSION, both_arm
from server.run_folder.finished_run import FinishedTask
from server.run_folder.predictions import predictions_path, read_predictions
from server.run_folder.results import ResultRow


def both_modalities(runs: Sequence[FinishedTask], data: Sequence[ExternalData | None]) -> list[dict[str, Any]]:
    """Everything that `both_modalities.html` shows of each pair of tasks; nothing of a run that fused none.

    `data` is what the external centre has of each task. `RunError` where the results have a fusion and its table is
    missing.
    """
    tasks = {run.task.name: (run, one) for run, one in zip(runs, data, strict=True)}
    sections = []
    for first, second, labels in modality_pairs(tasks):
        (run, one), (_, other) = tasks[first.name], tasks[second.name]
        fusion = _fusion(run, second.name, {task.modality: task.card.network for task in (first, second)})
        if fusion is None:
            continue
        left_out = shared_breasts(one.own_cases, other.own_cases, labels)[1] if one and other else {}
        titles = listed([label.title for label in labels])
        sections.append(
            {
                "anchor": pair_name(first.name, second.name),
                "title": f"{titles}, {listed([_title(task.modality) for task in (first, second)])} together",
                "centre": run.config.data.external,
                "sentence": _sentence(fusion),
                "patients": fusion.own_cases["patient"].nunique(),
                "left_out": listed([f"{counted(n, 'breast')} {why}" for why, n in left_out.items() if n]),
                "scores": {
                    "fewest": FEWEST,
                    "auc": auc_table(fusion),
                    "tests": differences(fusion),
                    **dict.fromkeys(("figures", "thresholds", "further")),
                }
                if len(fusion.cases)
                else None,
            }
        )
    return sections


def _fusion(run: FinishedTask, other: str, networks: dict[str, str]) -> ExternalData | None:
    """The fusion of a task with the other as the model, each modality as its rival; None where nothing was fused."""
    arms = {both_arm(other, FUSION): FEDERATED} | {both_arm(other, name): _title(name) for name in networks}
    rows: dict[str, dict[str, ResultRow]] = {arm: {} for arm in arms.values()}
    for row in run.external_rows:
        if row.arm in arms:
            rows[arms[row.arm]][row.metric] = row
    name = pair_name(run.task.name, other)
    if not rows[FEDERATED] and not (run.path / predictions_path(name)).is_file():
        return None
    table = read_predictions(run.path, name)
    cases = table.assign(arm=table["arm"].map(arms))
    return ExternalData(run, cases, rows, {_title(name): words for name, words in networks.items()}, "fusion")


def _sentence(fusion: ExternalData) -> str:
    """The AUCs of the fusion and of each modality alone, on the same breasts."""
    n = len(fusion.own_cases)
    if not n:
        return f"No breast of {fusion.run.config.data.external} has an answer of both: there is nothing to fuse."
    texts = []
    for metric in fusion.label_areas.values():
        known = {fusion.name if arm == FEDERATED else arm: rows[metric.name] for arm, rows in fusion.rows.items()}
        figures = [f"{arm} {with_interval(row.value, row.ci_low, row.ci_high, row.unit)}" for arm, row in known.items()]
        texts.append(f"{metric.title}: {listed(figures)}")
    confidence = f"{fusion.run.config.evaluation.confidence:.0%}"
    where = fusion.where.replace("cases", "breasts" if n > 1 else "breast", 1)
    return f"On {n} {where} that both answered, with {confidence} intervals: {'; '.join(texts)}."


def _title(modality: str) -> str:
    return "MRI" if modality == "mri" else modality
