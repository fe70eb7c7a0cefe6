"""The configuration of a run: strict, described, with the nearest valid name for an unknown key.

One TOML file a run; its header is the command that launches it. Every field says its unit.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import (
    Field,
    PrivateAttr,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from shared.cohort.labels import Label
from shared.config.execution import ComputeConfig, FederationConfig, StudyConfig, TrackingConfig
from shared.config.sections import (
    ClassifierSection,
    DataConfig,
    EvaluationConfig,
    InferenceConfig,
    ModelConfig,
    Section,
    SplitConfig,
    SubtypeRule,
    TaskSection,
    TrainingConfig,
)
from shared.config.strict_toml import read_toml, validated
from shared.errors import ConfigError
from shared.modalities import MODALITIES, modality_named
from shared.modalities.mri.settings import MriSettings
from shared.tasks import TASKS, task_named

S = TypeVar("S", bound=Section)


class RunConfig(Section):
    """Everything a run needs; `resolved` is written beside its results."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,47}$")
    tasks: tuple[Annotated[str, Field(max_length=64)], ...] = Field(
        default=("lesion-segmentation",),
        min_length=1,
        max_length=100,
        description="Trained in this order, over the same sites.",
    )
    seed: int = Field(default=0, ge=0, lt=2**32)
    data: DataConfig
    splits: SplitConfig = SplitConfig()
    preprocessing: MriSettings = MriSettings()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    inference: InferenceConfig = InferenceConfig()
    subtype_rule: SubtypeRule = Field(
        default="st-gallen-2023", description="From receptors to subtypes; as-given: the table's own column."
    )
    federation: FederationConfig = FederationConfig()
    compute: ComputeConfig = ComputeConfig()
    tracking: TrackingConfig = TrackingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    study: StudyConfig = StudyConfig()
    _sections: dict[str, Section] = PrivateAttr(default_factory=dict)
    """By task or modality; in the file each stands under `key_of` its name."""

    @property
    def task(self) -> str:
        """The task at hand: the only one of a configuration that `for_task` made."""
        return self.tasks[0]

    def for_task(self, name: str) -> RunConfig:
        """The same run as one task sees it: its own rounds and training loop in `federation` and `training`."""
        if name not in self._sections and (kind := _kind_of(name)) is not None:
            return self.with_sections({**self._sections, name: kind()}).for_task(name)
        update: dict[str, Any] = {"tasks": (name,)}
        own = self._sections.get(name)
        if isinstance(own, ClassifierSection):
            update["training"] = TrainingConfig.model_validate(own.training.model_dump())
            update["federation"] = self.federation.model_copy(update={"rounds": own.rounds})
        return self.model_copy(update=update)

    def section(self, kind: type[S]) -> S:
        """The own section of the task at hand, of the kind that its file declares; raises as `section_of`."""
        return self.section_of(self.task, kind)

    def section_of(self, name: str, kind: type[S]) -> S:
        """The own section of one of the run's tasks or modalities.

        `ConfigError` where it has none, or one of another kind.
        """
        own = self._sections.get(name)
        if not isinstance(own, kind):
            raise ConfigError(f"'{name}' has no section of the kind {kind.__name__}")
        return own

    def keys_of_files(self) -> list[str]:
        """Keys that name a file on the machine that trains, by their full path."""
        owned = [(name, own) for name, own in self._sections.items() if isinstance(own, TaskSection)]
        return [f"{key_of(name)}.{key}" for name, own in owned for key in own.keys_of_files]

    def with_sections(self, sections: Mapping[str, Section]) -> RunConfig:
        """The same run with these sections of tasks and modalities, by name."""
        config = self.model_copy()
        config._sections = dict(sections)  # noqa: SLF001 - our own, of another instance
        return config

    def canonical(self) -> dict[str, Any]:
        """All of the configuration, as plain values, but what decides nothing about what a site is asked.

        That is the seed, where a simulation finds the folders, and what the server keeps for itself.
        """
        raw = self.model_dump(mode="json", exclude_none=True)
        raw["data"] = {key: value for key, value in raw["data"].items() if key in {"sites", "external"}}
        return {key: value for key, value in raw.items() if key not in {"seed", "tracking", "study"}}

    def hash(self) -> str:
        """SHA-256 by which a hospital approves the configuration: of `canonical` as JSON with sorted keys."""
        return hashlib.sha256(json.dumps(self.canonical(), sort_keys=True).encode()).hexdigest()

    @property
    def centres(self) -> tuple[str, ...]:
        """Every centre: those that train, then the external one."""
        return (*self.data.sites, *([self.data.external] if self.data.external is not None else []))

    def leaving_out(self, centre: str) -> RunConfig:
        """The same run with one centre held out as the external one and all others training, in their order.

        `ConfigError` where there is no such centre, or too few are left to train.
        """
        if centre not in self.centres:
            raise ConfigError(f"no centre '{centre}' to hold out; there are {', '.join(self.centres)}")
        raw = self.model_dump(mode="json", exclude_none=True)
        raw["data"] |= {"sites": [name for name in self.centres if name != centre], "external": centre}
        return parse_config(raw, f"{self.name}, leaving out {centre}")

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities of the tasks, in their order."""
        return tuple(dict.fromkeys(task_named(name).modality for name in self.tasks))

    @property
    def labels(self) -> tuple[Label, ...]:
        """Columns of the table that the tasks learn from, each once."""
        return tuple(dict.fromkeys(label for name in self.tasks for label in task_named(name).labels))

    @property
    def split_labels(self) -> tuple[Label, ...]:
        """Labels by whose classes a site's patients are split."""
        return tuple(label for label in self.labels if label.name in self.splits.stratify)

    def needs(self, modality: str) -> frozenset[str]:
        """What a modality's cases must come with for one of the tasks: `lesion`, `tissues`, `image`."""
        tasks = [task_named(name) for name in self.tasks if task_named(name).modality == modality]
        return frozenset(need for task in tasks for need in task.needs(self.for_task(task.name)))

    @model_serializer(mode="wrap")
    def _with_sections(self, handler: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, Any]:
        sections = {
            key_of(name): own.model_dump(mode=info.mode, exclude_none=info.exclude_none)
            for name, own in self._sections.items()
            if type(own).model_fields
        }
        return {**handler(self), **sections}

    @model_validator(mode="after")
    def _each_task_once(self) -> RunConfig:
        if unknown := [name for name in self.tasks if name not in TASKS]:
            near = difflib.get_close_matches(unknown[0], list(TASKS), n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(TASKS)}"
            raise ValueError(f"tasks names '{unknown[0]}', which is no task; {hint}")
        if len(set(self.tasks)) != len(self.tasks):
            raise ValueError("tasks names one task twice")
        return self

    @model_validator(mode="after")
    def _study_of_known_centres(self) -> RunConfig:
        if unknown := set(self.study.held_out or ()) - set(self.centres):
            raise ValueError(f"study.held_out names {', '.join(sorted(unknown))}, which data does not list")
        return self

    @model_validator(mode="after")
    def _enough_sites(self) -> RunConfig:
        if self.federation.min_sites > len(self.data.sites):
            raise ValueError(
                f"federation.min_sites is {self.federation.min_sites} but data.sites lists only {len(self.data.sites)}",
            )
        return self


def load_config(path: Path) -> RunConfig:
    """Read and check a run's TOML file.

    `ConfigError` where the file is absent, not TOML, or a key is unknown or out of range; the message has the key's
    full path.
    """
    return parse_config(read_toml(path, "configuration"), source=path.name)


def parse_config(raw: dict[str, Any], source: str) -> RunConfig:
    """Check a parsed configuration, each section of a task, modality or strategy by the class that its owner declares.

    See `load_config`.
    """
    rest = dict(raw)
    given = [name for name in (*TASKS, *MODALITIES) if key_of(name) in rest and _kind_of(name) is not None]
    named = {name: rest.pop(key_of(name)) for name in given}
    federation = FederationConfig.parse(rest.get("federation", {}), source)
    config = validated(RunConfig, rest | {"federation": federation}, source, others=list(map(key_of, TASKS)))
    sections = {
        name: validated(kind, named.get(name, {}), source, key_of(name))
        for name in dict.fromkeys((*named, *config.tasks, *config.modalities))
        if (kind := _kind_of(name)) is not None
    }
    if unknown := set(config.splits.stratify) - {label.name for label in config.labels}:
        known = ", ".join(label.name for label in config.labels) or "none"
        raise ConfigError(f"{source}: 'splits.stratify' names {min(unknown)}, no label of the run's tasks ({known})")
    return config.with_sections(sections)


def key_of(name: str) -> str:
    """Name of the section of a task or modality in the file."""
    return name.replace("-", "_")


def _kind_of(name: str) -> type[Section] | None:
    return task_named(name).settings if name in TASKS else modality_named(name).section
