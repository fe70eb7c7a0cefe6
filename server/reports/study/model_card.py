"""`MODEL_CARD.md` of a study: what the models are, on whom they were judged, and what they must not be used for.

The sections are those of Mitchell et al., Model Cards for Model Reporting, FAT* 2019. Every figure is one of the
study's tables; the same folder gives the same bytes.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from server.reports.study import model_card_tables, model_card_text
from server.reports.study.metric_lookup import TASK_NAMES, metric_name
from server.reports.study.model_card_tables import markdown_table
from server.reports.study.study_reader import Study, read_study
from server.run_folder.results import replace_file
from shared.config.sections import TaskName

NAME = "MODEL_CARD.md"


def write_model_card(folder: Path) -> Path:
    """Write the model card of a finished study, atomically.

    Parameters
    ----------
    folder
        The study's folder, with its tables.

    Returns
    -------
    Path
        `MODEL_CARD.md` in that folder.

    Raises
    ------
    RunError
        A file of the study is missing or damaged; the message names it.
    ConfigError
        `study.toml` is not a configuration.

    """
    study = read_study(folder)
    parts = [
        *([f"> {model_card_text.PHANTOM}"] if study.phantom else []),
        f"# Model card: {study.provenance.name}",
        *_details(study),
        *("## Intended use", model_card_text.INTENDED),
        *("## Factors", model_card_tables.factors_table(study.cohort)),
        *_metrics(study),
        "## Training data",
        model_card_text.DATA,
        model_card_tables.training_table(study),
        "## Evaluation data",
        "Each held-out centre, whole, opened once after every model of its fold was frozen.",
        model_card_tables.opened_table(study),
        "## Quantitative analyses",
        "\n".join(f"- **{arm}**: {words}" for arm, words in model_card_text.ARMS.items()),
        *(part for task in study.config.tasks for part in _analyses(study, task)),
        *("## Ethical considerations and privacy", model_card_text.PRIVACY),
        "## Caveats and recommendations",
        *([model_card_text.PHANTOM] if study.phantom else []),
        model_card_text.CAVEATS,
        *_loading(study),
        *("## Licence", model_card_text.LICENCE),
        *_provenance(study),
    ]
    path = folder / NAME
    replace_file(path, ("\n\n".join(parts) + "\n").encode())
    return path


def _details(study: Study) -> list[str]:
    facts = [
        ("study", study.provenance.name),
        ("finished", study.provenance.created.isoformat()),
        ("kind", "3D deep learning on breast MRI, trained across centres without moving an image"),
        ("folds", f"one centre held out at a time: {', '.join(study.held_out)}"),
        ("seeds", ", ".join(map(str, study.config.study.seeds))),
    ]
    parts = ["## Model details", markdown_table(("detail", "value"), facts, "")]
    for name in study.config.tasks:
        network, reads, answers = model_card_text.NETWORKS[name]
        rows = [("model", network), ("reads", reads), ("answers", answers)]
        rows += model_card_text.training(study.config.for_task(name))
        parts += [f"### {TASK_NAMES[name]} (`{name}`)", markdown_table(("detail", "value"), rows, "")]
    return [
        *parts,
        "### Federated models",
        "Files are named from the study's folder; the hash is over names, shapes, types and bytes of all tensors.",
        model_card_tables.models_table(study),
    ]


def _metrics(study: Study) -> list[str]:
    config = study.config.evaluation
    table = study.tables.summary
    found = table[["metric", "unit"]].drop_duplicates("metric").itertuples(index=False)
    rows = [
        (metric_name(metric), "" if unit == "1" else unit, model_card_text.meaning(metric, config))
        for metric, unit in found
    ]
    words = (
        f"Intervals are {study.confidence} percentile bootstraps over patients ({config.bootstrap:,} resamples, by "
        "centre), the mean over seeds under the same resample: a seed is no further patient. Figures that rest on too "
        "few cases are called thin, and those that do not exist undefined."
    )
    return ["## Metrics", words, markdown_table(("figure", "unit", "meaning"), rows, "Nothing was measured.")]


def _analyses(study: Study, task: TaskName) -> list[str]:
    def own(table: pd.DataFrame) -> pd.DataFrame:
        return table[table["task"] == task]

    tables, interval = study.tables, f"{study.confidence} interval"
    summary = own(tables.summary)
    units = dict(zip(summary["metric"], summary["unit"], strict=True))
    return [
        f"### {TASK_NAMES[task]}: results of the federated model",
        "On each held-out centre and on all of them together.",
        model_card_tables.results_table(summary, interval),
        f"### {TASK_NAMES[task]}: pooled over centres",
        "Random effects; the prediction interval is where the next centre is expected. The tau2 of AUCs is of logits.",
        model_card_tables.meta_table(own(tables.meta), interval),
        f"### {TASK_NAMES[task]}: beside the other arms",
        "All held-out centres together, value (interval), n cases.",
        model_card_tables.arms_table(summary),
        "Federated minus each arm, paired on the same cases; p of the primary comparisons is adjusted after Holm.",
        model_card_tables.comparisons_table(own(tables.comparisons), units, interval),
        f"### {TASK_NAMES[task]}: subgroups",
        model_card_tables.subgroups_table(own(tables.subgroups), units, interval),
    ]


def _loading(study: Study) -> list[str]:
    kept = next(((cell, path) for cell, path in model_card_tables.federated_models(study) if path is not None), None)
    if kept is None:
        return ["## How to load a model", "This folder holds no federated weights."]
    cell, path = kept
    code = model_card_text.LOADING.format(
        file=path.relative_to(study.path).as_posix(), task=cell.task, held_out=cell.held_out, hash=cell.model_hash
    )
    return ["## How to load a model", model_card_text.FIRST, code]


def _provenance(study: Study) -> list[str]:
    made = study.provenance
    rows = [
        ("code", made.git or "unknown commit"),
        ("versions", ", ".join(f"{name} {version}" for name, version in sorted(made.versions.items()))),
        ("machine", ", ".join(f"{name} {value}" for name, value in sorted(made.machine.items()))),
        ("computing time, s", f"{made.seconds:.0f}"),
        ("data", "phantoms (generated)" if made.phantom else "site folders"),
        *((f"plan, {centre} held out", plan) for centre, plan in made.plans.items()),
    ]
    return ["## Provenance", markdown_table(("what", "value"), rows, "")]
