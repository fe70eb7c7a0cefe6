"""`MODEL_CARD.md` of a study: what the models are, on whom they were evaluated, and what they must not be used for.

The sections are those of Mitchell et al., Model Cards for Model Reporting, FAT* 2019. Every figure is one of the
study's tables; the same folder gives the same bytes.
"""

from __future__ import annotations

from pathlib import Path

from server.reports import metric_text
from server.reports.study import model_card_tables, model_card_text
from server.reports.study.metric_lookup import ARM_MEANINGS
from server.reports.study.model_card_tables import markdown_table
from server.run_folder.arms import FEDERATED
from server.run_folder.finished_study import FinishedStudy, read_finished_study
from server.run_folder.results import replace_file
from shared.tasks.task import Task

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
    study = read_finished_study(folder)
    parts = [
        *([f"> {model_card_text.PHANTOM}"] if study.phantom else []),
        f"# Model card: {study.provenance.name}",
        *_details(study),
        *("## Intended use", model_card_text.intended(study.tasks)),
        *("## Factors", model_card_tables.factors_table(study.cohort)),
        *_metrics(study),
        "## Training data",
        model_card_text.DATA,
        model_card_tables.training_table(study),
        "## Evaluation data",
        "Each held-out centre, whole, opened once after every model of its fold was frozen.",
        model_card_tables.openings_table(study),
        "## Quantitative analyses",
        "\n".join(f"- **{arm}**: {ARM_MEANINGS[arm]}" for arm in study.config.study.arms),
        *(part for task in study.tasks for part in _analyses(study, task)),
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


def _details(study: FinishedStudy) -> list[str]:
    facts = [
        ("study", study.provenance.name),
        ("finished", study.provenance.created.isoformat()),
        ("kind", "deep learning on breast images, trained across centres without moving an image"),
        ("folds", f"one centre held out at a time: {', '.join(study.held_out)}"),
        ("seeds", ", ".join(map(str, study.config.study.seeds))),
    ]
    parts = ["## Model details", markdown_table(("detail", "value"), facts, "")]
    for task in study.tasks:
        rows = model_card_text.details(task, study.config.for_task(task.name))
        parts += [f"### {task.title} (`{task.name}`)", markdown_table(("detail", "value"), rows, "")]
    return [
        *parts,
        "### Federated models",
        "Files are named from the study's folder; the hash is over names, shapes, types and bytes of all tensors.",
        model_card_tables.models_table(study),
    ]


def _metrics(study: FinishedStudy) -> list[str]:
    config = study.config.evaluation
    measured = set(zip(study.tables.summary["task"], study.tables.summary["metric"], strict=True))
    metrics = {
        metric.name: metric for task in study.tasks for metric in task.metrics if (task.name, metric.name) in measured
    }
    rows = [
        (metric.title, "" if metric.unit == "1" else metric.unit, metric_text.meaning(metric, config))
        for metric in metrics.values()
    ]
    words = (
        f"Intervals are {study.confidence} percentile bootstraps over patients ({config.bootstrap:,} resamples, by "
        "centre), the mean over seeds under the same resample: a seed is no further patient. Figures that rest on too "
        "few cases are called thin, and those that do not exist undefined."
    )
    return ["## Metrics", words, markdown_table(("figure", "unit", "meaning"), rows, "Nothing was measured.")]


def _analyses(study: FinishedStudy, task: Task) -> list[str]:
    tables = model_card_tables.TaskTables(study, task)
    return [
        f"### {task.title}: results of the federated model",
        "On each held-out centre and on all of them together.",
        tables.results(),
        f"### {task.title}: pooled over centres",
        "Random effects; the prediction interval is where the next centre is expected. The tau2 of AUCs is of logits.",
        tables.pooled(),
        f"### {task.title}: beside the other arms",
        "All held-out centres together, value (interval), n cases.",
        tables.arms(),
        "Federated minus each arm, paired on the same cases; p of the primary comparisons is adjusted after Holm.",
        tables.comparisons(),
        f"### {task.title}: subgroups",
        tables.subgroups(),
    ]


def _loading(study: FinishedStudy) -> list[str]:
    stored = ((model, model_card_tables.weights_file(study, model)) for model in study.models)
    kept = next(((model, path) for model, path in stored if model.arm == FEDERATED and path.is_file()), None)
    if kept is None:
        return ["## How to load a model", "This folder holds no federated weights."]
    model, path = kept
    code = model_card_text.LOADING.format(
        file=path.relative_to(study.path).as_posix(), task=model.task, held_out=model.held_out, hash=model.model_hash
    )
    return ["## How to load a model", model_card_text.FIRST, code]


def _provenance(study: FinishedStudy) -> list[str]:
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
