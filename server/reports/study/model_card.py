"""`MODEL_CARD.md` of a study: what the models are, on whom they were evaluated, and what they must not be used for.

Its text is `model_card.md.j2`. Every figure is one of the study's tables; the same folder gives the same bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel

from server.reports.study import model_card_tables
from server.reports.study.metric_lookup import ARM_MEANINGS
from server.reports.templates import environment
from server.run_folder.arms import FEDERATED
from server.run_folder.finished_study import FinishedStudy, ModelEntry, read_finished_study
from server.run_folder.results import replace_file
from shared.config.run_config import RunConfig
from shared.config.sections import LoopConfig, TaskSection
from shared.modalities import modality_named
from shared.tasks.augmentation import no_augmentation
from shared.tasks.task import Task

NAME = "MODEL_CARD.md"


def write_model_card(folder: Path) -> Path:
    """Write the model card into a finished study's folder, atomically, and return its path.

    Raises
    ------
    RunError
        A file of the study is missing or damaged; the message names it.
    ConfigError
        `study.toml` is not a configuration.

    """
    study, templates = read_finished_study(folder), environment()
    templates.filters["table"] = model_card_tables.markdown_table
    text = templates.get_template("model_card.md.j2").render(
        study=study, details=details, tables=model_card_tables, arm_meanings=ARM_MEANINGS, kept=_kept(study)
    )
    replace_file(folder / NAME, f"{text}\n".encode())
    return folder / NAME


def _kept(study: FinishedStudy) -> tuple[ModelEntry, str] | None:
    """The first federated model whose weights the folder holds, with its file; None where it holds none."""
    for model in study.models:
        path = model_card_tables.weights_file(study, model)
        if model.arm == FEDERATED and path.is_file():
            return model, path.relative_to(study.path).as_posix()
    return None


def details(task: Task, config: RunConfig) -> list[tuple[str, str]]:
    """What a task's network is, reads and answers, and how it learns, from its card and the configuration it sees."""
    loop, card = config.training, task.card
    changes = {name: value for name, value in loop.augmentation.model_dump().items() if value}
    facts = [
        ("model", f"{card.network} ({card.citation})"),
        ("reads", card.reads),
        ("answers", card.answers),
        *modality_named(task.modality).settings(config).describe(),
        ("loss", task.learner.loss_title),
        ("optimiser", f"AdamW, rate {loop.learning_rate:g} falling as a cosine, decay {loop.weight_decay:g}"),
        ("rounds", f"{config.federation.rounds} of {loop.steps_per_round} steps a site, batches of {loop.batch_size}"),
        ("round chosen by", f"{task.choice.title}, on validation cases of the training centres"),
        ("averaging", f"{config.federation.strategy}, weighted by training cases"),
        ("augmentation", "none" if task.learner.augment is no_augmentation else f"at random: {_listed(changes)}"),
        ("missing labels", "left out of the loss and of the figure they belong to; nothing is imputed"),
    ]
    if task.structures:
        facts += [("network", _listed(config.model.model_dump()))]
        facts += [("threshold", f"probability {config.inference.threshold:g} a voxel")]
    if task.scored:
        facts += [("threshold", "Youden's on validation cases, frozen before the held-out centre was opened")]
    return [*facts, *_settings(config.section(TaskSection))]


def _settings(section: BaseModel) -> list[tuple[str, str]]:
    """The task's own section, but for its training loop and rounds, which stand above."""
    own = {name: getattr(section, name) for name in type(section).model_fields if name != "rounds"}
    return [
        (
            name.replace("_", " "),
            _listed(value.model_dump(exclude_none=True)) if isinstance(value, BaseModel) else _shown(value),
        )
        for name, value in own.items()
        if not isinstance(value, LoopConfig)
    ]


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {_shown(value)}" for name, value in values.items())


def _shown(value: object) -> str:
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_shown, value))})"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
