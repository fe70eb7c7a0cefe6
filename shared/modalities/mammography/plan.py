"""Plan of a federation's mammograms, and the fingerprint it is made from: breasts' levels as counts that add up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from shared.config.run_config import RunConfig
from shared.errors import RunError
from shared.metrics.sums import MOST_CASES
from shared.modalities.mammography.settings import MammographySettings, Pixels
from shared.modalities.modality import Plan
from shared.preprocessing.histograms import Counts

VERSION = 3
"""Version of this package: raised when it changes what a case looks like, so that cached cases are prepared again."""
BINS = 100
"""Of grey values from 0 to 1."""
SAMPLES = 2_000
"""Pixels of a case that are counted, evenly spread over its breast, so that large breasts do not weigh more."""
_DECIMALS = 4
_LEAST_SD = 0.01


class Extraction(Plan):
    """What is cut out of an image before there is a plan."""

    version: int = Field(default=VERSION, ge=1, le=10**6)
    margin: float = Field(ge=0.0, le=2000.0)
    margin_unit: Literal["pixels", "mm"]
    roi_pixels: Pixels
    whole_pixels: tuple[Pixels, Pixels]

    @classmethod
    def of(cls, config: MammographySettings) -> Extraction:
        """Take the settings from the configuration, which all sites have before there is a plan."""
        return cls.model_validate(config.model_dump(exclude={"workers"}))


class MammographyPlan(Plan):
    """How every site prepares a breast: what is cut out, and the mean and deviation that grey values get 0 and 1 by."""

    mean: Annotated[float, Field(ge=0.0, le=1.0)]
    deviation: Annotated[float, Field(ge=_LEAST_SD, le=1.0)]
    extraction: Extraction


@dataclass(frozen=True, slots=True)
class MammographyFingerprint:
    """Counts over a site's training cases; `+` merges sites."""

    cases: Counts  # (1,)
    levels: Counts  # (BINS,): sampled pixels of breasts by grey value

    @classmethod
    def empty(cls) -> MammographyFingerprint:
        """Fingerprint of no cases, the neutral element of `+`."""
        return cls(np.zeros(1, np.int64), np.zeros(BINS, np.int64))

    @property
    def n(self) -> int:
        """Number of cases."""
        return int(self.cases[0])

    def __add__(self, other: MammographyFingerprint) -> MammographyFingerprint:
        return MammographyFingerprint(self.cases + other.cases, self.levels + other.levels)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MammographyFingerprint) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]  # arrays inside: equal by value, not hashable

    def scaled(self, cases: int) -> MammographyFingerprint:
        """As of so many of its cases: cumulated counts are rounded down, so that the mean stays where it is."""
        reached = np.floor(np.cumsum(self.levels) * float(cases) / self.n).astype(np.int64)
        return MammographyFingerprint(np.array([cases], np.int64), np.diff(reached, prepend=0))

    def to_dict(self) -> dict[str, list[int]]:
        """Flat lists of whole numbers: the only form in which a fingerprint leaves a site."""
        return {item.name: getattr(self, item.name).tolist() for item in fields(self)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Sequence[int]]) -> MammographyFingerprint:
        """Undo `to_dict`; the data are checked, because they come from another machine, and refused by `ValueError`."""
        if set(data) != {"cases", "levels"}:
            raise ValueError("fingerprint: needs exactly cases and levels")
        for name, length, most in (("cases", 1, MOST_CASES), ("levels", BINS, MOST_CASES * SAMPLES)):
            values = list(data[name])
            if len(values) != length or not all(type(value) is int and 0 <= value <= most for value in values):
                raise ValueError(f"fingerprint: '{name}' must be {length} counts")
        cases, counted = data["cases"][0], sum(data["levels"])
        if not cases <= counted <= cases * SAMPLES:
            raise ValueError("fingerprint: the levels are not of as many cases as it says")
        return cls(np.array(data["cases"], np.int64), np.array(data["levels"], np.int64))


def make_plan(merged: MammographyFingerprint, config: RunConfig) -> MammographyPlan:
    """Mean and standard deviation of the breasts' grey values; `RunError` where no site has a training case."""
    if merged.n == 0:
        raise RunError("no site has a usable training mammogram: look at the exclusions with `fedbreast check`")
    centres = (np.arange(BINS) + 0.5) / BINS
    share = merged.levels / merged.levels.sum()
    mean = float(share @ centres)
    deviation = float(np.sqrt(share @ (centres - mean) ** 2))
    return MammographyPlan(
        mean=round(mean, _DECIMALS),
        deviation=round(max(_LEAST_SD, deviation), _DECIMALS),
        extraction=Extraction.of(config.section_of("mammography", MammographySettings)),
    )
