"""Random changes of DCE-MRI training samples, in torch (6 times faster than dictionary transforms on CPU).

Every draw comes from one CPU generator, so a round's batches depend on its seed alone. Geometry acts on image and mask
alike; intensity acts on the image only. The intensity changes are the ones scanners differ by: gain, contrast dose,
acquisition times, coil shading, noise, resolution (Billot 2023 calls their strong form domain randomisation).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from shared.config.sections import AugmentationConfig

_TIMING = (0.8, 1.4)  # of a phase's time: protocols' first post-contrast phase lies between 60 and 120 s
_CONTRAST = (0.75, 1.25)  # this range and the next are those of Isensee 2021
_GAMMA = (0.7, 1.5)
_ARRIVAL = 1 / 6  # of the first phase's time: some 15 of 90 s pass before the agent reaches the breast


def augment(image: Tensor, mask: Tensor, config: AugmentationConfig, generator: Generator) -> tuple[Tensor, Tensor]:
    """Change a batch.

    Parameters
    ----------
    image
        float32 `(n, channel, z, y, x)`; channel 0 is pre-contrast, the others are enhancement.
    mask
        float32 `(n, structure, z, y, x)` of 0 and 1.
    config, generator
        Probabilities and the source of every draw.

    """
    images, masks = [], []
    for one, truth in zip(image, mask, strict=True):
        changed, target = _geometry(one, truth, config, generator)
        images.append(change_intensity(changed, config, generator))
        masks.append(target)
    return torch.stack(images), torch.stack(masks)


def no_augmentation(
    batch: Tensor, target: Tensor, config: AugmentationConfig, generator: Generator
) -> tuple[Tensor, Tensor]:
    """The batch as it is."""
    del config, generator
    return batch, target


def _chance(probability: float, generator: Generator) -> bool:
    return bool(torch.rand((), generator=generator) < probability)


def _uniform(low: float, high: float, generator: Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def _geometry(image: Tensor, mask: Tensor, config: AugmentationConfig, generator: Generator) -> tuple[Tensor, Tensor]:
    # Only left-right and head-foot: a breast never points backwards.
    axes = [axis for axis in (1, 3) if _chance(config.flip, generator)]
    image, mask = image.flip(axes), mask.flip(axes)
    if not _chance(config.affine, generator):
        return image, mask
    both = torch.cat([image, mask]).unsqueeze(0)
    theta = _random_affine(config, tuple(image.shape[1:]), generator).unsqueeze(0)
    grid = F.affine_grid(theta, list(both.shape), align_corners=False)
    moved = F.grid_sample(both, grid, mode="bilinear", padding_mode="zeros", align_corners=False)[0]
    return moved[: len(image)], (moved[len(image) :] >= 0.5).to(mask.dtype)  # noqa: PLR2004 - the half-way surface


def _random_affine(config: AugmentationConfig, shape: tuple[int, ...], generator: Generator) -> Tensor:
    """A rotation, a scaling and a shift, `(3, 4)` in normalised `(x, y, z)`."""
    if config.rotation_axes == "all":
        return _turn_about_all(config, shape, generator)
    angle = math.radians(_uniform(-config.rotation_deg, config.rotation_deg, generator))
    scale = [_uniform(1 - config.scale, 1 + config.scale, generator) for _ in range(3)]
    shift = [_uniform(-0.1, 0.1, generator) for _ in range(3)]
    aspect = shape[1] / shape[2]
    # Normalised coordinates stretch y against x by the sides' ratio; without `aspect` a rotation would shear.
    rows = [
        [math.cos(angle) / scale[0], -math.sin(angle) * aspect / scale[0], 0.0, shift[0]],
        [math.sin(angle) / aspect / scale[1], math.cos(angle) / scale[1], 0.0, shift[1]],
        [0.0, 0.0, 1.0 / scale[2], shift[2]],
    ]
    return torch.tensor(rows)


def _turn_about_all(config: AugmentationConfig, shape: tuple[int, ...], generator: Generator) -> Tensor:
    turn = torch.eye(3)
    for axis in range(3):
        angle = math.radians(_uniform(-config.rotation_deg, config.rotation_deg, generator))
        one, (first, second) = torch.eye(3), [other for other in range(3) if other != axis]
        one[first, first] = one[second, second] = math.cos(angle)
        one[first, second], one[second, first] = -math.sin(angle), math.sin(angle)
        turn = turn @ one
    scale = torch.tensor([_uniform(1 - config.scale, 1 + config.scale, generator) for _ in range(3)])
    shift = torch.tensor([_uniform(-0.1, 0.1, generator) for _ in range(3)])
    sides = torch.tensor(shape[::-1], dtype=torch.float32)
    # As above: normalised coordinates stretch the axes by the sides.
    matrix = turn / scale[:, None] * sides[None, :] / sides[:, None]
    return torch.cat([matrix, shift[:, None]], dim=1)


def change_intensity(image: Tensor, config: AugmentationConfig, generator: Generator) -> Tensor:
    """Change one image `(channel, z, y, x)`: acquisition times, gain, contrast, gamma, shading, resolution, noise."""
    if _chance(config.timing, generator):
        image = other_times(image, _uniform(*_TIMING, generator))
    if _chance(config.intensity, generator):
        gain = torch.ones(image.shape[0], 1, 1, 1)
        gain[0] = _uniform(0.7, 1.4, generator)
        # One factor for all enhancement channels: contrast dose and field strength move them together.
        gain[1:] = _uniform(0.6, 1.6, generator)
        image = image * gain
    # Nothing is drawn for what is off: it came later, and results of before stay.
    if config.contrast and _chance(config.contrast, generator):
        image = _by_parts(image, _other_contrast, _CONTRAST, generator)
    if config.gamma and _chance(config.gamma, generator):
        image = _by_parts(image, gamma_curve, _GAMMA, generator)
    if _chance(config.bias_field, generator):
        image = image * _smooth_field(tuple(image.shape[1:]), _uniform(0.1, 0.4, generator), generator)
    if _chance(config.blur, generator):
        image = _coarser(image, _uniform(1.2, 2.0, generator))
    if _chance(config.noise, generator):
        noise = torch.randn(image.shape, generator=generator)
        image = image + _uniform(0.02, 0.2, generator) * noise
    return image


def _by_parts(
    image: Tensor, change: Callable[[Tensor, float], Tensor], limits: tuple[float, float], generator: Generator
) -> Tensor:
    """Change the pre-contrast channel by one drawn number, all enhancement by another: curves keep their scale."""
    return torch.cat([change(part, _uniform(*limits, generator)) for part in (image[:1], image[1:])])


def _other_contrast(part: Tensor, factor: float) -> Tensor:
    """Stretch each channel about its mean, within the range that it had."""
    flat = part.flatten(1)
    mean, low, high = (item[:, None, None, None] for item in (flat.mean(1), flat.amin(1), flat.amax(1)))
    return torch.clamp(mean + factor * (part - mean), low, high)


def gamma_curve(part: Tensor, exponent: float) -> Tensor:
    """`top * sign(x) * |x / top| ** exponent`: 0 and the largest magnitude `top` of all channels stay, also signs."""
    top = part.abs().amax().clamp(min=1e-6)
    return top * part.sign() * (part.abs() / top) ** exponent


def other_times(image: Tensor, factor: float) -> Tensor:
    """As if every phase had been taken at `factor` times its time after injection.

    Enhancement runs straight from the contrast agent's arrival through the phases, and beyond the last as between the
    last two. Times are counted in phases; as the door reads them from 120 to 225 s, and not from 120 to 360 s, factors
    of 0.8 to 1.4 act as about 0.85 to 1.25.

    Parameters
    ----------
    image
        `(channel, z, y, x)`: pre, post1 - pre, then each later phase minus post1, all changes on one scale. With a
        single change nothing is known of the curve, and it stays.
    factor
        Above 0.

    """
    phases = image.shape[0] - 1
    if phases == 1:
        return image
    uptake = [torch.zeros_like(image[0]), image[1], *(image[1] + later for later in image[2:])]
    moved = []
    for number in range(1, phases + 1):
        time = factor * number
        if time < 1.0:
            moved.append(uptake[1] * max(0.0, (time - _ARRIVAL) / (1.0 - _ARRIVAL)))
            continue
        before = min(phases - 1, int(time))
        moved.append(torch.lerp(uptake[before], uptake[before + 1], time - before))
    return torch.stack([image[0], moved[0], *(later - moved[0] for later in moved[1:])])


def _smooth_field(shape: tuple[int, ...], strength: float, generator: Generator) -> Tensor:
    """A positive multiplicative field with log standard deviation near `strength`, smooth over a third of the box."""
    knots = torch.randn((1, 1, 3, 3, 3), generator=generator) * strength
    return torch.exp(F.interpolate(knots, size=list(shape), mode="trilinear", align_corners=True)[0])


def _coarser(image: Tensor, factor: float) -> Tensor:
    """Sample down in plane and up again: a coarser acquisition."""
    size = [image.shape[1], max(8, round(image.shape[2] / factor)), max(8, round(image.shape[3] / factor))]
    small = F.interpolate(image.unsqueeze(0), size=size, mode="trilinear", align_corners=False)
    return F.interpolate(small, size=list(image.shape[1:]), mode="trilinear", align_corners=False)[0]
