"""The sections of a run's configuration: strict, each field described with its unit."""

from __future__ import annotations

import itertools
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from shared.words import refuse_controls

Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Rounds = Annotated[int, Field(ge=1, le=10_000)]
Workers = Annotated[int, Field(ge=1, le=256)]
Voxels = Annotated[int, Field(ge=1, le=1024)]
SubtypeRule = Literal["st-gallen-2023", "as-given"]
SiteName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]


class Section(BaseModel):
    """A strict, immutable table of a configuration or kit.

    Every number of a run's configuration has two bounds, every list and text a longest length: a run must not ask a
    hospital for work without bounds. No text holds a control character.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    _visible = field_validator("*")(refuse_controls)


class TaskSection(Section):
    """The section of one task, declared in its file; the segmentation networks' are empty and share `[model]`."""

    @property
    def keys_of_files(self) -> tuple[str, ...]:
        """Keys that name a file on the machine that trains."""
        return ()


class PhantomConfig(Section):
    """The embedded phantom; present only when the run's data are phantoms."""

    cases_per_site: int = Field(default=36, ge=2, le=100_000, description="Patients a training centre.")
    cases_external: int = Field(default=36, ge=2, le=100_000, description="Patients at the external centre.")
    cases_benign: int = Field(
        default=0, ge=0, le=100_000, description="Further patients at every centre whose index lesion is benign."
    )
    shift: float = Field(
        default=0.6, ge=0.0, le=2.0, description="0: one consensus protocol; 1: the centres' full differences."
    )
    separation: float = Field(default=0.75, gt=0.0, le=2.0, description="How far apart the subtypes' latent means lie.")
    seed: int = Field(default=0, ge=0, lt=2**32, description="Seed of the data, apart from the training's.")
    mammograms: bool = Field(default=False, description="CC and MLO of both breasts beside each patient's MRI.")
    densities: dict[SiteName, Annotated[str, Field(pattern="^a?b?c?d?$", min_length=1)]] = Field(
        default={}, description='By centre, its patients\' only breast densities, as "ab"; others have all four.'
    )


class DataConfig(Section):
    """Which sites there are and where a simulation finds their folders."""

    root: str = Field(
        max_length=4096, description="Folder with one folder a site; relative to the project's root. Simulation only."
    )
    sites: tuple[SiteName, ...] = Field(
        min_length=1, max_length=1000, description="Training sites, in the order of their partitions."
    )
    external: SiteName | None = Field(default=None, description="The locked centre: never trains, is opened once.")
    phantom: PhantomConfig | None = Field(default=None, description="Generate the data when the folder is absent.")

    @model_validator(mode="after")
    def _external_never_trains(self) -> DataConfig:
        if self.external in self.sites:
            raise ValueError(
                f"external centre '{self.external}' is also listed in sites: a centre that trains cannot evaluate. "
                "Take it out of one of the two",
            )
        if len(set(self.sites)) != len(self.sites):
            raise ValueError("sites names one site twice: each hospital must appear once")
        return self


class SplitConfig(Section):
    """Shares of a site's patients kept from training."""

    validation: Fraction = Field(default=0.17, description="Chooses the best round; share of the site's patients.")
    test: Fraction = Field(default=0.17, description="For internal evaluation; share of the site's patients.")
    stratify: tuple[Annotated[str, Field(max_length=64)], ...] = Field(
        default=(), max_length=8, description="Labels of the run; each split gets its share of each of their classes."
    )

    @model_validator(mode="after")
    def _some_train(self) -> SplitConfig:
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together leave no patient to train on: they must be below 1")
        return self


class ModelConfig(Section):
    """The 3D ResU-Net of `lesion-segmentation` and of `breast-segmentation`, a network each."""

    channels: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = Field(
        default=(16, 24, 32, 48), min_length=2, max_length=8, description="Feature maps a level."
    )
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
    rotation_deg: float = Field(default=15.0, ge=0.0, le=180.0)
    rotation_axes: Literal["slices", "all"] = Field(
        default="slices",
        description="Segmentation: about the axis through the slices alone, or about all three, each within "
        "rotation_deg; in voxels, so that spacing should be alike along all axes.",
    )
    shear_deg: float = Field(default=0.0, ge=0.0, le=45.0, description="Of a mammogram, horizontally.")
    scale: float = Field(default=0.15, ge=0.0, lt=1.0, description="Scaling is drawn within 1 ± this.")
    intensity: Fraction = Field(default=0.5, description="Probability of changes of gain.")
    contrast: Fraction = Field(default=0.0, description="Probability of a change of contrast, MRI.")
    gamma: Fraction = Field(default=0.0, description="Probability of a gamma curve of the intensities, MRI.")
    timing: Fraction = Field(default=0.7, description="Probability of other acquisition times after injection.")
    noise: Fraction = Field(default=0.3, description="Probability of added noise.")
    bias_field: Fraction = Field(default=0.3, description="Probability of a smooth multiplicative field.")
    blur: Fraction = Field(default=0.2, description="Probability of blurring (a coarser acquisition).")


class LoopConfig(Section):
    """The training loop, the same for every task and arm."""

    batch_size: int = Field(
        default=2, ge=2, le=1024, description="Never 1: 3D convolutions at batch 1 are up to 3.5 times slower on CPU."
    )
    steps_per_round: int = Field(default=20, ge=1, le=100_000)
    learning_rate: float = Field(default=4e-3, gt=0.0, le=10.0)
    weight_decay: float = Field(default=1e-2, ge=0.0, le=10.0)
    warmup_steps: int = Field(
        default=0, ge=0, le=100_000, description="Linear warm-up at the start of the first round, steps."
    )
    gradient_clip: float = Field(default=12.0, gt=0.0, le=1e6, description="Largest norm of the gradient.")
    augmentation: AugmentationConfig = AugmentationConfig()
    mixed_precision: Literal["auto", "off"] = Field(default="auto", description="auto: only where the hardware has it.")


class TrainingConfig(LoopConfig):
    """The loop of the segmentation networks, the same for each, and what of a breast they see at once."""

    mode: Literal["whole_breast", "patch"] = "whole_breast"
    patch_voxels: tuple[Voxels, Voxels, Voxels] = Field(default=(48, 96, 96), description="(z, y, x), patch mode.")
    foreground_share: float = Field(
        default=0.67, ge=0.0, le=1.0, description="Share of patches centred on the lesion; of tissues none is."
    )


class PatchConfig(Section):
    """The box around the lesion that a classifier reads."""

    voxels: tuple[Voxels, Voxels, Voxels] = Field(default=(36, 36, 36), description="(z, y, x) of the box.")
    spacing_mm: float | None = Field(
        default=None, ge=0.1, le=20.0, description="Edge of a voxel; none: the box is as large as `over_lesion` says."
    )
    over_lesion: float = Field(
        default=1.5, ge=1.0, le=5.0, description="Shortest side of the box over the lesion's longest; without spacing."
    )


class ClassifierSection(TaskSection):
    """A classifier: its size, and its own rounds and training loop."""

    size: Literal["published", "small"] = Field(default="small", description="small: for a few CPU cores.")
    rounds: Rounds = 10
    balance: Literal["none", "weights", "oversampling"] = Field(
        default="weights", description="What a site does about rare classes: nothing, weigh their loss, draw them more."
    )
    training: LoopConfig = LoopConfig(batch_size=16, learning_rate=2e-3, weight_decay=0.05, gradient_clip=5.0)


class PatchSection(ClassifierSection):
    """A classifier of lesion patches in MRI, and what it reads."""

    patch: PatchConfig = PatchConfig()
    mirrored_copies: int = Field(
        default=4, ge=1, le=8, description="Mirrored copies of a patch whose scores are averaged."
    )


class MeasuredSection(PatchSection):
    """A network of lesion patches, with or without measures that no network learnt."""

    measured: bool = Field(
        default=True,
        description="Add a linear term in the lesion's size, shape and uptake; false: the published network alone.",
    )


class NetworkAloneSection(MeasuredSection):
    """The same network without that term, beside it in one run."""

    measured: bool = False


class InferenceConfig(Section):
    """How a trained model reads a case."""

    overlap: float = Field(default=0.5, ge=0.0, lt=1.0, description="Overlap of neighbouring patches, patch mode.")
    batch_size: int = Field(default=2, ge=1, le=1024)
    threshold: float = Field(default=0.5, gt=0.0, lt=1.0, description="Probability from which a voxel is taken.")
    min_lesion_ml: float = Field(default=0.03, ge=0.0, le=1000.0, description="Smaller pieces are dropped, ml.")
    relative_certainty: Fraction = Field(
        default=0.9, description="Pieces with a mean probability below this times the largest one's are dropped."
    )
    flip_averaging: bool = Field(default=False, description="Average over mirrored copies (see flip_axes).")
    flip_axes: tuple[Literal["z", "y", "x"], ...] = Field(
        default=("x",), min_length=1, max_length=3, description="Mirrored alone and together: 2, 4 or 8 times the time."
    )
    mixed_precision: Literal["auto", "off"] = Field(
        default="off", description="auto: outlines in half precision where the hardware has it."
    )

    @property
    def copies(self) -> tuple[tuple[int, ...], ...]:
        """Axes of `(z, y, x)`, counted from the end, along which each copy of a volume is mirrored."""
        axes = sorted({"zyx".index(name) - 3 for name in self.flip_axes}) if self.flip_averaging else []
        return tuple(chosen for number in range(len(axes) + 1) for chosen in itertools.combinations(axes, number))


class EvaluationConfig(Section):
    """How results are stated."""

    bootstrap: int = Field(default=2000, ge=100, le=1_000_000, description="Resamples of patients for intervals.")
    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    explained_per_subtype: int = Field(
        default=8, ge=0, le=10_000, description="External cases of each class on which a network is explained; 0: none."
    )
    nsd_tolerance_mm: float = Field(
        default=2.0, gt=0.0, le=100.0, description="Tolerance of the normalised surface Dice."
    )
    lesion_overlap: float = Field(
        default=0.1, gt=0.0, le=1.0, description="IoU from which a predicted lesion counts as found."
    )
