"""Federated fingerprint: what nnU-Net measures on one dataset (Isensee 2021), as counts that add up over sites.

A site sends histograms over shared bins and integer sums, nothing about a single case. Integers add up exactly in any
order, so the merged fingerprint and the plan do not depend on the order in which sites answer. A federation of one site
makes the plan of that site.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from shared.config.run_config import RunConfig
from shared.errors import ConfigError, RunError
from shared.metrics.sums import MOST_CASES
from shared.modalities.mri.intensity import to_channels
from shared.modalities.mri.plan import COARSEST_MM, MOST_VOXELS, Extraction, MriPlan, Triple, Voxels
from shared.modalities.mri.region import BreastRegion
from shared.preprocessing.histograms import (
    INTENSITY_EDGES,
    SIZE_EDGES,
    SPACING_EDGES,
    VOLUME_EDGES,
    Counts,
    count,
    quantile,
)

# Voxels sampled per case, evenly spread, so that large breasts do not weigh more than small ones (as in nnU-Net).
SAMPLES = 10_000
FIXED = 1024  # sums are integers in units of 1/FIXED, exact in any order
BOX_SHARE = 0.95
CLIPPED_SHARE = 5e-4
ANISOTROPY = 3.0
LARGEST_BOX = 2**25  # voxels: in patch mode a finer spacing is widened, whatever one site's fingerprint says
DECIMALS = 4  # of a plan's numbers, which people can read and every platform writes alike


@dataclass(frozen=True, slots=True)
class SiteFingerprint:
    """Counts over a site's training cases; `+` merges sites."""

    cases: Counts  # (1,)
    spacing: Counts  # (3, bins) along (z, y, x)
    size: Counts  # (3, bins): sides of the breast box along (z, y, x)
    volume: Counts  # (bins,): lesions
    intensity: Counts  # (channel, bins): sampled breast voxels
    total: Counts  # (channel,): sum of the sampled values, in units of 1/FIXED
    square: Counts  # (channel,): sum of their squares, in units of 1/FIXED

    @classmethod
    def empty(cls, post_phases: int) -> SiteFingerprint:
        """Fingerprint of no cases, the neutral element of `+`."""
        channels = 1 + post_phases
        return cls(
            cases=np.zeros(1, np.int64),
            spacing=np.zeros((3, len(SPACING_EDGES) - 1), np.int64),
            size=np.zeros((3, len(SIZE_EDGES) - 1), np.int64),
            volume=np.zeros(len(VOLUME_EDGES) - 1, np.int64),
            intensity=np.zeros((channels, len(INTENSITY_EDGES) - 1), np.int64),
            total=np.zeros(channels, np.int64),
            square=np.zeros(channels, np.int64),
        )

    @property
    def n(self) -> int:
        """Number of cases."""
        return int(self.cases[0])

    def __add__(self, other: SiteFingerprint) -> SiteFingerprint:
        if self.intensity.shape != other.intensity.shape:
            raise ValueError("fingerprints of different numbers of channels do not add up")
        return SiteFingerprint(
            **{item.name: getattr(self, item.name) + getattr(other, item.name) for item in fields(self)}
        )

    def scaled(self, cases: int) -> SiteFingerprint:
        """As of so many of its cases: cumulated counts are rounded down, so that quantiles stay where they are."""

        def part(counts: Counts) -> Counts:
            reached = np.floor(np.cumsum(counts, axis=-1) * float(cases) / self.n).astype(np.int64)
            return np.diff(reached, axis=-1, prepend=0)

        return SiteFingerprint(**{item.name: part(getattr(self, item.name)) for item in fields(self)})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SiteFingerprint) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]  # arrays inside: equal by value, not hashable

    def to_dict(self) -> dict[str, list[int]]:
        """Flat lists of whole numbers: the only form in which a fingerprint leaves a site."""
        return {item.name: getattr(self, item.name).ravel().tolist() for item in fields(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Sequence[int]], post_phases: int) -> SiteFingerprint:
        """Undo `to_dict`; the data are checked, because they come from another machine, and refused by `ValueError`."""
        zero = cls.empty(post_phases)
        if set(data) != {item.name for item in fields(cls)}:
            raise ValueError(f"fingerprint: needs exactly {', '.join(item.name for item in fields(cls))}")
        n = data["cases"][0] if data["cases"] else 0
        if type(n) is not int or not 0 <= n <= MOST_CASES:
            raise ValueError(f"fingerprint: 'cases' holds a number that is no count of at most {MOST_CASES}")
        sampled, highest = n * SAMPLES, round(INTENSITY_EDGES[-1])
        most = dict.fromkeys(data, MOST_CASES) | {"intensity": sampled}
        most |= {"total": sampled * highest * FIXED, "square": sampled * highest**2 * FIXED}
        arrays: dict[str, Counts] = {}
        for item in fields(cls):
            shape = getattr(zero, item.name).shape
            values = list(data[item.name])
            if len(values) != int(np.prod(shape)) or not all(type(value) is int for value in values):
                raise ValueError(f"fingerprint: '{item.name}' must be {int(np.prod(shape))} whole numbers")
            if any(abs(value) > most[item.name] or (value < 0 and item.name != "total") for value in values):
                raise ValueError(f"fingerprint: '{item.name}' holds a number that is no count")
            arrays[item.name] = np.array(values, np.int64).reshape(shape)
        fingerprint = cls(**arrays)
        samples = set(fingerprint.intensity.sum(axis=1).tolist())
        complete = all((part.sum(axis=1) == n).all() for part in (fingerprint.spacing, fingerprint.size))
        if not complete or fingerprint.volume.sum() > n or len(samples) != 1 or not n <= samples.pop() <= sampled:
            raise ValueError("fingerprint: the histograms do not hold as many cases as it says")
        return fingerprint


def fingerprint_region(region: BreastRegion) -> SiteFingerprint:
    """Fingerprint of one extracted breast."""
    places = np.flatnonzero(region.breast.ravel())
    places = places[np.linspace(0, len(places) - 1, min(SAMPLES, len(places))).astype(np.int64)]
    sampled = region.phases.reshape(len(region.phases), -1)[:, places]
    values = to_channels(sampled).clip(INTENSITY_EDGES[0], INTENSITY_EDGES[-1]).astype(np.float64)
    volume = [] if region.lesion is None else [float(region.lesion.sum()) * region.grid.voxel_volume_ml]
    return SiteFingerprint(
        cases=np.ones(1, np.int64),
        spacing=np.stack([count([step], SPACING_EDGES) for step in region.grid.spacing]),
        size=np.stack([count([side], SIZE_EDGES) for side in region.size_mm]),
        volume=count(volume, VOLUME_EDGES),
        intensity=np.stack([count(channel, INTENSITY_EDGES) for channel in values]),
        total=np.rint(values * FIXED).astype(np.int64).sum(axis=1),
        square=np.rint(values**2 * FIXED).astype(np.int64).sum(axis=1),
    )


def make_plan(merged: SiteFingerprint, config: RunConfig) -> MriPlan:
    """Choose the preprocessing of the federation from the merged fingerprint, by the rules of nnU-Net where it has one.

    - Spacing: the median along each axis. If slices are `ANISOTROPY` times thicker than pixels, it is the 10th
      percentile along that axis (Isensee 2021, "target spacing"), so that most cases keep their slices.
    - Whole-breast box: sides that hold `BOX_SHARE` of the breasts, rounded up to a multiple that the network needs. If
      the box has more than `max_voxels` voxels, the spacing is multiplied by one factor until it fits (as in nnU-Net's
      low-resolution stage), and then refined along each axis to fill the rounded box.
    - Channels: clipped at the `CLIPPED_SHARE` tails, then divided by their root mean square. The tails are thinner than
      nnU-Net's 0.5% of the foreground, because a lesion has only 1% of the voxels of a breast. All changes are divided
      by the root mean square of the first uptake, so that wash-out stays proportional to wash-in.

    In patch mode the spacing is widened where such a box had more than `LARGEST_BOX` voxels.

    Spacing and box of the configuration are kept; with a box but no spacing, the spacing is widened until `BOX_SHARE`
    of the breasts fit. A box that does not fit the network, or a spacing that needs more than `max_voxels`, raises
    `ConfigError`; a federation without a case raises `RunError`.
    """
    if merged.n == 0:
        raise RunError("no site has a usable training case: look at the exclusions with `fedbreast check`")
    settings = config.preprocessing
    multiple = config.model.stem_stride * 2 ** (len(config.model.channels) - 1)
    sizes = [quantile(row, SIZE_EDGES, BOX_SHARE) for row in merged.size]
    spacing = settings.spacing_mm or _target_spacing(merged)
    crop = settings.crop_voxels or _box(sizes, spacing, multiple)
    if any(side % multiple for side in crop):
        raise ConfigError(f"'preprocessing.crop_voxels': every side of {crop} must be a multiple of {multiple}")
    if config.training.mode == "whole_breast":
        if settings.spacing_mm is None:
            spacing, crop = _fit(sizes, spacing, settings.crop_voxels, multiple, settings.max_voxels)
        elif settings.crop_voxels is None and int(np.prod(crop)) > settings.max_voxels:
            raise ConfigError(
                f"'preprocessing.spacing_mm': breasts at {spacing} mm need a box of {crop}, more than max_voxels = "
                f"{settings.max_voxels}; take a coarser spacing, a larger max_voxels, or leave spacing_mm out"
            )
    elif settings.spacing_mm is None and int(np.prod(_box(sizes, spacing, multiple))) > LARGEST_BOX:
        spacing, box = _fit(sizes, spacing, None, multiple, LARGEST_BOX)
        crop = settings.crop_voxels or box
    if int(np.prod(crop)) > MOST_VOXELS:
        raise ConfigError(
            f"'preprocessing': a box of {crop} has more than {MOST_VOXELS} voxels; take a coarser spacing"
        )
    samples = np.maximum(1, merged.intensity.sum(axis=1)).astype(np.float64)
    rms = np.sqrt(merged.square / (FIXED * samples)).clip(1e-3)
    return MriPlan(
        mode=config.training.mode,
        spacing_mm=spacing,
        crop_voxels=crop,
        least_voxels=config.training.patch_voxels,
        low=tuple(round(quantile(row, INTENSITY_EDGES, CLIPPED_SHARE), DECIMALS) for row in merged.intensity),
        high=tuple(round(quantile(row, INTENSITY_EDGES, 1 - CLIPPED_SHARE), DECIMALS) for row in merged.intensity),
        scale=tuple(round(float(rms[min(channel, 1)]), DECIMALS) for channel in range(len(rms))),
        extraction=Extraction.of(settings),
    )


def _target_spacing(merged: SiteFingerprint) -> Triple:
    median = [quantile(row, SPACING_EDGES, 0.5) for row in merged.spacing]
    coarsest = int(np.argmax(median))
    if median[coarsest] > ANISOTROPY * min(median):
        fine = quantile(merged.spacing[coarsest], SPACING_EDGES, 0.1)
        # As in nnU-Net, not finer than the coarsest of the other axes.
        median[coarsest] = max(fine, *(step for axis, step in enumerate(median) if axis != coarsest))
    z, y, x = (round(step, DECIMALS) for step in median)
    return z, y, x


def _fit(
    sizes: Sequence[float], target: Triple, crop: Voxels | None, multiple: int, max_voxels: int
) -> tuple[Triple, Voxels]:
    """Widen the spacing by one factor until the box holds `sizes` (mm) with at most `max_voxels` voxels."""
    if crop is None and multiple**3 > max_voxels:
        raise ConfigError(f"the smallest box of this network has {multiple**3} voxels, more than {max_voxels}")
    box, percent = crop or _box(sizes, target, multiple), 0
    while crop is None and int(np.prod(box)) > max_voxels:
        percent += 1
        z, y, x = (step * (1 + percent / 100) for step in target)
        box = _box(sizes, (z, y, x), multiple)
    z, y, x = (
        round(min(COARSEST_MM, max(step, size / side)), DECIMALS)
        for step, size, side in zip(target, sizes, box, strict=True)
    )
    return (z, y, x), box


def _box(sizes: Sequence[float], spacing: Triple, multiple: int) -> Voxels:
    z, y, x = (
        int(np.ceil(size / step / multiple - 1e-9)) * multiple for size, step in zip(sizes, spacing, strict=True)
    )
    return z, y, x
