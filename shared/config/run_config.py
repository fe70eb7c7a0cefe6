"""The configuration of a run: strict, described, with the nearest valid name for an unknown key.

One TOML file a run; its header is the command that launches it. Every field says its unit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from shared.config.execution import ComputeConfig, FederationConfig, TrackingConfig
from shared.config.sections import (
    ClassifierConfig,
    DataConfig,
    EvaluationConfig,
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
from shared.config.strict_toml import read_toml, validated
from shared.config.study import StudyConfig
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
    tracking: TrackingConfig = TrackingConfig()
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
    return parse_config(read_toml(path, "configuration"), source=path.name)


def parse_config(raw: dict[str, Any], source: str) -> RunConfig:
    """Check a parsed configuration; see `load_config`."""
    federation = FederationConfig.parse(raw.get("federation", {}), source)
    return validated(RunConfig, raw | {"federation": federation}, source)
