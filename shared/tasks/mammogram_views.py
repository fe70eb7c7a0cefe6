"""Both views of a breast as the training loop reads them: opened with targets, drawn by class, turned, mirrored."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Generator, Tensor

from shared.config.run_config import RunConfig
from shared.config.sections import AugmentationConfig, ClassifierSection, Fraction, LoopConfig
from shared.errors import ConfigError
from shared.modalities.mammography.cache import PreparedBreast
from shared.modalities.mammography.mammography import settings
from shared.modalities.mammography.plan import MammographyPlan
from shared.modalities.mammography.tags import VIEWS, View
from shared.models.breast_views import BreastViews, Fusion
from shared.models.plane_networks import build_network
from shared.reproducibility import derive_seed
from shared.tasks.patches import PatchCase, Target, balanced
from shared.types import FloatArray

_LEAST_SIDE = 8  # of a blurred image, pixels
_MIRRORS: tuple[tuple[int, ...], ...] = ((), (3,), (2,), (2, 3))
"""Axes of views `(view, channel, y, x)` that are turned round."""


Extent = Annotated[
    Literal["roi", "whole"], Field(description="The square around the lesion's outline, or the whole breast.")
]
Network = Annotated[str, Field(max_length=64, description="A key of shared/models/plane_networks.py.")]


class MammographySection(ClassifierSection):
    """A classifier of mammograms: what it reads of a breast, and how often it draws rarer cases."""

    extent: Extent = "roi"
    outline: bool = Field(
        default=False, description="Read the lesion's outline, too: a second channel, 1 inside. Only with extent = roi."
    )
    oversampling: float = Field(
        default=1.5, ge=1.0, le=5.0, description="With balance = oversampling: most times that a rarer case is drawn."
    )

    @model_validator(mode="after")
    def _outline_of_a_lesion(self) -> Self:
        if self.outline and self.extent == "whole":
            raise ValueError('outline = true needs extent = "roi": a whole breast may have no lesion')
        return self

    @property
    def channels(self) -> int:
        """What a network reads of each pixel: its grey value and, if wished, whether it lies in the outline."""
        return 2 if self.outline else 1


class NetworkSection(MammographySection):
    """A network of mammograms, and how the two views answer together."""

    network: Network = "densenet121-cbam"
    pretrained: str = Field(
        default="none",
        max_length=4096,
        description="ImageNet weights: a file, `hub` for torch's own cache, `none` for a random start.",
    )
    dropout: Fraction = Field(default=0.3, description="Before the last layer.")
    fusion: Fusion = Field(
        default="scores", description="Both views' answer: the mean of their probabilities, or a layer over features."
    )
    mirrored_copies: int = Field(default=1, ge=1, le=4, description="Mirrored copies whose scores are averaged.")
    training: LoopConfig = LoopConfig(batch_size=8, learning_rate=1e-4, weight_decay=0.005, gradient_clip=5.0)

    @property
    def keys_of_files(self) -> tuple[str, ...]:
        """Key of the pretrained weights if they are a file."""
        return () if self.pretrained in {"hub", "none"} else ("pretrained",)


class WholeBreastSection(NetworkSection):
    """As `NetworkSection`, of a question about the whole breast."""

    extent: Extent = "whole"


@dataclass(frozen=True, kw_only=True)
class ViewsCase(PatchCase):
    """One breast in place of one lesion; `patch` are its views."""

    breast: PreparedBreast
    plan: MammographyPlan
    section: MammographySection

    @cached_property
    def patch(self) -> FloatArray:
        """float32 `(view, channel, y, x)`, read once."""
        return read_views(self.breast, self.plan, self.section)


def read_views(breast: PreparedBreast, plan: MammographyPlan, section: MammographySection) -> FloatArray:
    """CC and MLO, float32 `(2, channel, y, x)`: grey values with the plan's mean at 0 and its deviation as 1.

    The second channel, if the section has it, is 1 within the lesion's outline and 0 elsewhere. Where one view is
    absent, the other stands for it. The breast has the section's extent.
    """
    images = breast.whole() if section.extent == "whole" else breast.regions()
    channels = [(_both(images) - np.float32(plan.mean)) / np.float32(plan.deviation)]
    if section.outline:
        channels.append(_both(breast.outlines("roi")).astype(np.float32))
    return np.stack(channels, axis=1)


def _both(images: Mapping[View, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    (first, *_) = images.values()
    return np.stack([images.get(view, first) for view in VIEWS])


def mirrored(views: FloatArray, copies: int) -> FloatArray:
    """The first of a breast's four mirror images, float32 `(copy, view, channel, y, x)`."""
    return np.stack([np.flip(views, axes) for axes in _MIRRORS[:copies]])


def open_views(
    cases: Sequence[PreparedBreast], plan: MammographyPlan, config: RunConfig, target: Target
) -> list[ViewsCase]:
    """Breasts that have the task's labels and, where it reads the lesion, an outline."""
    own = config.section(MammographySection)
    opened = []
    for case in cases:
        values, stratum = target(case.labels, config)
        if values and (own.extent == "whole" or case.outlined):
            known = {"breast": case, "plan": plan, "section": own}
            opened.append(ViewsCase(case.key, case.folder, values, stratum, case.labels, **known))  # type: ignore[arg-type]
    return oversampled(opened, own.oversampling) if own.balance == "oversampling" else balanced(opened, own.balance)


def oversampled(cases: Sequence[ViewsCase], most: float) -> list[ViewsCase]:
    """Draw cases of rarer classes up to `most` times as often, and never more often than the commonest class.

    A rate such as 1.3 repeats three of ten cases, evenly spread over the list.
    """
    counts = Counter(case.stratum for case in cases)
    taken: Counter[str] = Counter()
    drawn = []
    for case in cases:
        rate = min(most, max(counts.values()) / counts[case.stratum])
        copies = math.floor(rate * (taken[case.stratum] + 1)) - math.floor(rate * taken[case.stratum])
        taken[case.stratum] += 1
        drawn += [case] * copies
    return drawn


def shape(config: RunConfig) -> tuple[int, ...]:
    """Shape of a breast's views as the network reads them."""
    own = settings(config)
    section = config.section(MammographySection)
    size = own.whole_pixels if section.extent == "whole" else (own.roi_pixels,) * 2
    return (len(VIEWS), section.channels, *size)


def build_model(config: RunConfig, task: str, classes: int) -> BreastViews:
    """The network that a task's section names, over both views; its start is drawn from the run's seed and the task.

    Raises `ConfigError` as `plane_networks.build_network`, and for a vision transformer of images that are no squares.
    """
    own = config.section(NetworkSection)
    _, channels, rows, columns = shape(config)
    if own.network == "vit-b16" and rows != columns:
        raise ConfigError(f"{task}: 'vit-b16' reads squares, mammography.whole_pixels is {rows} x {columns}")
    drawn = {"size": own.size, "dropout": own.dropout, "side": rows, "pretrained": own.pretrained}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(config.seed, task))
        network = build_network(own.network, classes, channels_in=channels, **drawn)  # type: ignore[arg-type]
        return BreastViews(network, classes, own.fusion)


def sample(case: ViewsCase, config: RunConfig, draws: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """The views, and the target with the case's weight behind it."""
    del config, draws
    return case.patch, np.array([*case.target, case.weight], np.float32)


def augment(views: Tensor, target: Tensor, config: AugmentationConfig, generator: Generator) -> tuple[Tensor, Tensor]:
    """Mirror, turn, shear and scale each view on its own, then change its contrast, sharpness and noise.

    `views` are float32 `(n, view, channel, y, x)`; grey values are the first channel. Times and the coils' field, which
    `config` has too, are those of MRI.
    """
    images = views.flatten(0, 1)
    theta = torch.stack([_turn(config, generator) for _ in images])
    # Normalised coordinates stretch y against x by the ratio of the sides: without it a turn would shear.
    aspect = images.shape[-2] / images.shape[-1]
    theta[:, 0, 1] *= aspect
    theta[:, 1, 0] /= aspect
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    grey = torch.stack([_grey(item[:1], config, generator) for item in moved])
    return torch.cat([grey, moved[:, 1:]], dim=1).reshape(views.shape), target


def _turn(config: AugmentationConfig, generator: Generator) -> Tensor:
    """A mirroring and, by chance, a turn, a horizontal shear and a scaling, `(2, 3)` in `(x, y)`."""
    matrix = torch.diag(torch.where(torch.rand(2, generator=generator) < config.flip, -1.0, 1.0))
    if bool(torch.rand((), generator=generator) < config.affine):
        turn, shear, scale = (2 * torch.rand(3, generator=generator) - 1).tolist()
        angle = math.radians(config.rotation_deg * turn)
        rotation = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        sheared = torch.tensor([[1.0, math.tan(math.radians(config.shear_deg * shear))], [0.0, 1.0]])
        matrix = matrix @ rotation @ sheared / (1 + config.scale * scale)
    return torch.cat([matrix, torch.zeros(2, 1)], dim=1)


def _grey(image: Tensor, config: AugmentationConfig, generator: Generator) -> Tensor:
    """Other contrast and brightness, a coarser detector, noise; `(1, y, x)` in deviations of the plan."""
    chances = torch.rand(3, generator=generator).tolist()
    drawn = torch.rand(4, generator=generator).tolist()
    if chances[0] < config.intensity:
        image = image * (0.75 + 0.5 * drawn[0]) + 0.6 * (drawn[1] - 0.5)
    if chances[1] < config.blur:
        size = [max(_LEAST_SIDE, round(side / (1.2 + 0.8 * drawn[2]))) for side in image.shape[1:]]
        small = F.interpolate(image[None], size=size, mode="bilinear", antialias=True)
        image = F.interpolate(small, size=list(image.shape[1:]), mode="bilinear")[0]
    if chances[2] < config.noise:
        image = image + 0.2 * drawn[3] * torch.randn(image.shape, generator=generator)
    return image
