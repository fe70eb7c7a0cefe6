"""The model card's sentences that no table holds: details of a task, uses, privacy, loading."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from shared.config.run_config import RunConfig
from shared.config.sections import LoopConfig, TaskSection
from shared.modalities import modality_named
from shared.tasks.augmentation import no_augmentation
from shared.tasks.task import Task

PHANTOM = (
    "**PHANTOM DATA: the images were made from equations. These figures describe the software; they are no evidence "
    "about patients.**"
)
_INTENDED = """\
- **Meant for**: research on breast MRI with contrast agent: does one shared model hold in a centre that never trained?
- **Users**: researchers, with a radiologist who reads every outline.
- **Not meant for**: diagnosis, treatment, triage or any other use in care. It is not a medical device.
- **Not to be assumed**: that it holds for other modalities, exams without contrast agent, treated or operated breasts,
  implants, scanners unlike those under Factors, or screening (no false-alarm rate in healthy breasts follows)."""
_OUTLINE = "- **An outline of the lesion is needed** ({}). Drawn by a reader, it is part of what was evaluated here."
PRIVACY = """\
- No image and no table leaves a centre in a federation: weights, counts, histograms and sums do.
- Weights are not anonymous by nature: no differential privacy and no secure aggregation was applied. Whoever receives
  them should be bound as a recipient of derived patient data.
- A study is a simulation on one machine that sees every folder: it measures arms that hospitals could not all train.
- Cases carry pseudonyms only. This card has no row of a single patient.
- Ethical approval, consent and permission to use the data are the centres' own; the software cannot know them.
- Ancestry, income and the like are not recorded, so fairness towards such groups is unknown."""
CAVEATS = """\
- A held-out centre is one sample of centres; the prediction interval is about the next, where centres suffice.
- Arms see the same number of optimiser steps at each site; a local model sees fewer cases, as it would.
- The round was chosen on validation cases of the training centres; figures on those cases are optimistic.
- The reference is one outline for each case: disagreement between readers is not in these figures.
- Subgroup figures are many and small: p is adjusted (Benjamini and Hochberg), and none was the study's question.
- Evaluate it on local cases before any use, and again after a change of scanner or protocol."""

DATA = (
    "In each fold the held-out centre trains nothing; all others train on their split `train` and choose the round on "
    "`validation`. Cases without a task's labels are left out of that task alone."
)
LICENCE = (
    "Apache-2.0 for the software and for models trained on phantoms. Models trained on patients' images are bound by "
    "what the centres agreed on as well."
)
FIRST = (
    "The first of the table above; nothing in a `.safetensors` file can run. Input must be prepared by the fold's "
    "plan; a classifier's thresholds are the columns `threshold_<label>` of its task's table in `predictions/`."
)
LOADING = """\
```python
# Run in the study's folder, with FedBreast installed.
from pathlib import Path

from safetensors.torch import load_file

from shared.config.run_config import load_config
from shared.reproducibility import state_hash
from shared.tasks import task_named

config = load_config(Path("study.toml")).leaving_out("{held_out}").for_task("{task}")
model = task_named("{task}").learner.build_model(config)
state = load_file("{file}")
assert state_hash(state) == "{hash}"
model.load_state_dict(state)
model.eval()
```"""


def intended(tasks: Sequence[Task]) -> str:
    """What the models are meant for, and what not."""
    readers = [task.title for task in tasks if task.reads_outline]
    return "\n".join([_INTENDED, *([_OUTLINE.format(", ".join(readers))] if readers else [])])


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
