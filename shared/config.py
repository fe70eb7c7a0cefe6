"""The configuration of a run: strict, described, with the nearest valid name for an unknown key.

One TOML file a run; its header is the command that launches it. Every field says its unit.
"""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, Field, ValidationError, model_validator

from shared.config_sections import (
    ClassifierConfig,
    ComputeConfig,
    DataConfig,
    EvaluationConfig,
    FederationConfig,
    InferenceConfig,
    ModelConfig,
    MultitaskConfig,
    PreprocessingConfig,
    RadiomicsConfig,
    Section,
    SplitConfig,
    SubtypeConfig,
    SubtypeRule,
    TaskName,
    TrainingConfig,
)
from shared.config_study import StudyConfig
from shared.errors import ConfigError


class RunConfig(Section):
    """Everything a run needs; `resolved` is written beside its results."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,47}$")
    tasks: tuple[TaskName, ...] = Field(
        default=("lesion-segmentation",), min_length=1, description="Trained in this order, over the same sites."
    )
    seed: int = Field(default=0, ge=0)
    data: DataConfig
    splits: SplitConfig = SplitConfig()
    preprocessing: PreprocessingConfig = PreprocessingConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    inference: InferenceConfig = InferenceConfig()
    subtype_rule: SubtypeRule = Field(
        default="st-gallen-2023", description="From receptors to subtypes; as-given: the table's own column."
    )
    subtype_ensemble: SubtypeConfig = SubtypeConfig()
    subtype_radiomics: RadiomicsConfig = RadiomicsConfig()
    receptor_status: ClassifierConfig = ClassifierConfig()
    receptor_ki67_multitask: MultitaskConfig = MultitaskConfig()
    lesion_malignancy: ClassifierConfig = ClassifierConfig()
    federation: FederationConfig = FederationConfig()
    compute: ComputeConfig = ComputeConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    study: StudyConfig = StudyConfig()

    @property
    def task(self) -> TaskName:
        """The task at hand: the only one of a configuration that `for_task` made."""
        return self.tasks[0]

    def for_task(self, name: TaskName) -> RunConfig:
        """The same run as one task sees it: its own rounds and training loop in `federation` and `training`."""
        own = self.classifier(name)
        if own is None:
            return self.model_copy(update={"tasks": (name,)})
        return self.model_copy(
            update={
                "tasks": (name,),
                "training": TrainingConfig.model_validate(own.training.model_dump()),
                "federation": self.federation.model_copy(update={"rounds": own.rounds}),
            }
        )

    def classifier(self, name: TaskName) -> ClassifierConfig | None:
        """A classifier's own section; None for a segmentation."""
        found: ClassifierConfig | None = getattr(self, name.replace("-", "_"), None)
        return found

    @property
    def centres(self) -> tuple[str, ...]:
        """Every centre: those that train, then the external one."""
        return (*self.data.sites, *([self.data.external] if self.data.external is not None else []))

    def leaving_out(self, centre: str) -> RunConfig:
        """The same run with one centre held out as the external one and all others training, in their order.

        Raises
        ------
        ConfigError
            There is no such centre, or too few are left to train.

        """
        if centre not in self.centres:
            raise ConfigError(f"no centre '{centre}' to hold out; there are {', '.join(self.centres)}")
        raw = self.model_dump(mode="json", exclude_none=True)
        raw["data"] |= {"sites": [name for name in self.centres if name != centre], "external": centre}
        return parse_config(raw, f"{self.name}, leaving out {centre}")

    @property
    def reads_lesions(self) -> bool:
        """Whether a task needs the lesion's outline: cases without it are then left out."""
        return any(name != "breast-segmentation" for name in self.tasks)

    @property
    def reads_tissues(self) -> bool:
        """Whether a task needs the masks of breast and fibroglandular tissue: cases without them are not its own."""
        return "breast-segmentation" in self.tasks

    @model_validator(mode="after")
    def _each_task_once(self) -> RunConfig:
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

    Raises
    ------
    ConfigError
        The file is absent, not TOML, or a key is unknown or out of range; the message has the key's full path.

    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        known = sorted(item.name for item in path.parent.glob("*.toml")) if path.parent.is_dir() else []
        hint = f"; found there: {', '.join(known)}" if known else ""
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}{hint}") from error
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path.name} is not valid TOML: {error}") from error
    return parse_config(raw, source=path.name)


def parse_config(raw: dict[str, Any], source: str) -> RunConfig:
    """Check a parsed configuration; see `load_config`."""
    try:
        return RunConfig.model_validate(raw)
    except ValidationError as error:
        found = error.errors()
        # A refused item leaves its list too short: the item's own error says it all.
        inner = [item["loc"] for item in found]
        lines = [_explain(item) for item in found if not (item["loc"] and item["loc"] in [loc[:-1] for loc in inner])]
        raise ConfigError(f"{source}: " + "; ".join(lines)) from error


def _explain(item: Any) -> str:
    """One pydantic error as `path: what, remedy`."""
    parts = [str(part) for part in item["loc"]]
    path = ".".join(parts) or "the file"
    if item["type"] == "extra_forbidden":
        names = _field_names(parts[:-1])
        near = difflib.get_close_matches(parts[-1], names, n=1, cutoff=0.4)
        hint = f"did you mean '{'.'.join([*parts[:-1], near[0]])}'?" if near else f"valid keys here: {', '.join(names)}"
        return f"unknown key '{path}'; {hint}"
    if item["type"] == "missing":
        return f"'{path}' is missing"
    message = str(item["msg"]).removeprefix("Value error, ")
    given = "" if item["type"] == "value_error" else f" (given: {item['input']!r})"
    return f"'{path}': {message}{given}"


def _field_names(parents: list[str]) -> list[str]:
    """Valid keys of the section at `parents`."""
    section: type[BaseModel] = RunConfig
    for part in parents:
        annotation = section.model_fields[part].annotation
        candidates = [annotation, *get_args(annotation)]
        section = next(item for item in candidates if isinstance(item, type) and issubclass(item, BaseModel))
    return sorted(section.model_fields)
