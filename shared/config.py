"""The configuration of a run: strict, described, with the nearest valid name for an unknown key.

One TOML file a run; its header is the command that launches it. Every field says its unit.
"""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from shared.errors import ConfigError

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
SiteName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]


class Section(BaseModel):
    """A strict, immutable table of the configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PhantomConfig(Section):
    """The embedded phantom; present only when the run's data are phantoms."""

    cases_per_site: int = Field(default=36, ge=2, description="Patients a training centre.")
    cases_external: int = Field(default=36, ge=2, description="Patients at the external centre.")
    shift: float = Field(
        default=0.6, ge=0.0, le=2.0, description="0: one consensus protocol; 1: the centres' full differences."
    )
    separation: float = Field(default=0.75, gt=0.0, le=2.0, description="How far apart the subtypes' latent means lie.")
    seed: int = Field(default=0, ge=0, description="Seed of the data, apart from the training's.")


class DataConfig(Section):
    """Which sites there are and where a simulation finds their folders."""

    root: str = Field(description="Folder with one folder a site; relative to the project's root. Simulation only.")
    sites: tuple[SiteName, ...] = Field(min_length=1, description="Training sites, in the order of their partitions.")
    external: SiteName | None = Field(default=None, description="The locked centre: never trains, is opened once.")
    phantom: PhantomConfig | None = Field(default=None, description="Generate the data when the folder is absent.")

    @model_validator(mode="after")
    def _external_never_trains(self) -> DataConfig:
        if self.external in self.sites:
            raise ValueError(
                f"external centre '{self.external}' is also listed in sites: a centre that trains cannot judge. "
                "Take it out of one of the two",
            )
        if len(set(self.sites)) != len(self.sites):
            raise ValueError("sites names one site twice: each hospital must appear once")
        return self


class SplitConfig(Section):
    """Shares of a site's patients kept from training."""

    validation: Fraction = Field(default=0.17, description="Chooses the best round; share of the site's patients.")
    test: Fraction = Field(default=0.17, description="Judges internally; share of the site's patients.")


class PreprocessingConfig(Section):
    """What becomes of a study before a network reads it."""

    spacing_mm: tuple[float, float, float] | None = Field(
        default=None,
        description="(z, y, x) mm; none: the merged fingerprint's median.",
    )
    crop_voxels: tuple[int, int, int] | None = Field(
        default=None,
        description="(z, y, x) of the breast box in whole-breast mode; none: from the merged fingerprint.",
    )
    max_voxels: int = Field(
        default=300_000, ge=4096, description="Upper bound of the whole-breast box; spacing is widened to fit."
    )
    post_phases: int = Field(
        default=3, ge=1, le=8, description="Post-contrast phases used: first, last, evenly between."
    )
    n4: bool = Field(default=True, description="N4 bias field correction.")
    n4_shrink: int = Field(default=4, ge=1, le=16, description="Shrink factor for the bias field's estimate.")
    n4_iterations: tuple[int, ...] = Field(default=(20, 20, 20, 20), description="Iterations a fitting level.")
    workers: int = Field(default=1, ge=1, description="Studies preprocessed at once at a site.")


class ModelConfig(Section):
    """The 3D ResU-Net."""

    channels: tuple[int, ...] = Field(default=(16, 24, 32, 48), min_length=2, description="Feature maps a level.")
    stem_stride: Literal[1, 2] = Field(
        default=2, description="2 halves the resolution at once: fast whole-breast mode."
    )
    norm: Literal["group", "instance", "batch"] = Field(
        default="group", description="Group norm has nothing to aggregate."
    )
    deep_supervision: int = Field(default=3, ge=1, le=5, description="Decoder levels that carry a loss.")
    dropout: Fraction = 0.0


class AugmentationConfig(Section):
    """Random changes of a training sample; probabilities a sample."""

    flip: Fraction = Field(default=0.5, description="Probability of a flip, each axis.")
    affine: Fraction = Field(default=0.3, description="Probability of rotation and scaling.")
    rotation_deg: float = Field(default=15.0, ge=0.0, le=90.0)
    scale: float = Field(default=0.15, ge=0.0, lt=1.0, description="Scaling is drawn within 1 ± this.")
    intensity: Fraction = Field(default=0.5, description="Probability of changes of gain.")
    timing: Fraction = Field(default=0.7, description="Probability of other acquisition times after injection.")
    noise: Fraction = Field(default=0.3, description="Probability of added noise.")
    bias_field: Fraction = Field(default=0.3, description="Probability of a smooth multiplicative field.")
    blur: Fraction = Field(default=0.2, description="Probability of blurring (a coarser acquisition).")


class TrainingConfig(Section):
    """The training loop, the same for every arm."""

    mode: Literal["whole_breast", "patch"] = "whole_breast"
    patch_voxels: tuple[int, int, int] = Field(default=(48, 96, 96), description="(z, y, x), patch mode.")
    foreground_share: float = Field(default=0.67, ge=0.0, le=1.0, description="Share of patches centred on the lesion.")
    batch_size: int = Field(
        default=2, ge=2, description="Never 1: 3D convolutions at batch 1 are up to 3.5 times slower on CPU."
    )
    steps_per_round: int = Field(default=20, ge=1)
    learning_rate: float = Field(default=4e-3, gt=0.0)
    weight_decay: float = Field(default=1e-2, ge=0.0)
    warmup_steps: int = Field(default=0, ge=0, description="Linear warm-up at the start of the first round, steps.")
    gradient_clip: float = Field(default=12.0, gt=0.0, description="Largest norm of the gradient.")
    augmentation: AugmentationConfig = AugmentationConfig()
    mixed_precision: Literal["auto", "off"] = Field(default="auto", description="auto: only where the hardware has it.")


class InferenceConfig(Section):
    """How a trained model reads a case."""

    overlap: float = Field(default=0.5, ge=0.0, lt=1.0, description="Overlap of neighbouring patches, patch mode.")
    batch_size: int = Field(default=2, ge=1)
    threshold: float = Field(default=0.5, gt=0.0, lt=1.0, description="Probability above which a voxel is lesion.")
    min_lesion_ml: float = Field(default=0.03, ge=0.0, description="Smaller connected predictions are dropped, ml.")
    relative_certainty: Fraction = Field(
        default=0.9, description="Pieces with a mean probability below this times the most certain one's are dropped."
    )
    flip_averaging: bool = Field(default=False, description="Average over left-right flips (twice the time).")


class FederationConfig(Section):
    """The rounds and who must take part."""

    rounds: int = Field(default=10, ge=1)
    strategy: Literal["fedavg", "fedprox", "fedadam"] = "fedavg"
    proximal_mu: float = Field(default=0.01, ge=0.0, description="FedProx's mu; used when strategy is fedprox.")
    server_learning_rate: float = Field(default=0.01, gt=0.0, description="FedAdam's eta.")
    server_beta_1: Fraction = 0.9
    server_beta_2: Fraction = 0.99
    server_tau: float = Field(default=1e-3, gt=0.0, description="FedAdam's degree of adaptability.")
    min_sites: int = Field(default=1, ge=1, description="Fewer good replies than this end the run with an error.")
    round_timeout_s: float = Field(
        default=3600.0, gt=0.0, description="A site that has not answered by then is absent this round."
    )


class ComputeConfig(Section):
    """Cores; clients x threads <= cores."""

    threads: int = Field(default=1, ge=1, description="torch threads a client: part of what makes bytes reproducible.")
    server_workers: int = Field(default=1, ge=1, description="Studies of the external centre prepared at once.")
    device: Literal["auto", "cpu", "cuda"] = "auto"


class EvaluationConfig(Section):
    """How results are stated."""

    bootstrap: int = Field(default=2000, ge=100, description="Resamples of patients for intervals.")
    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    nsd_tolerance_mm: float = Field(default=2.0, gt=0.0, description="Tolerance of the normalised surface Dice.")
    lesion_overlap: float = Field(
        default=0.1, gt=0.0, le=1.0, description="IoU from which a predicted lesion counts as found."
    )


class RunConfig(Section):
    """Everything a run needs; `resolved` is written beside its results."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,47}$")
    task: Literal["lesion-segmentation"] = "lesion-segmentation"
    seed: int = Field(default=0, ge=0)
    data: DataConfig
    splits: SplitConfig = SplitConfig()
    preprocessing: PreprocessingConfig = PreprocessingConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    inference: InferenceConfig = InferenceConfig()
    federation: FederationConfig = FederationConfig()
    compute: ComputeConfig = ComputeConfig()
    evaluation: EvaluationConfig = EvaluationConfig()

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
        lines = [_explain(item) for item in error.errors()]
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
