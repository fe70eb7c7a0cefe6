"""A toy modality: two X-ray views of one breast, each shrunk to a small square. A real one has several files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from shared.cohort.labels import CaseLabels
from shared.cohort.manifest import CaseRow
from shared.cohort.preflight import Case, Located, locate_exams
from shared.cohort.site_folder import SiteFolder
from shared.config.run_config import RunConfig
from shared.config.sections import Section
from shared.dicom.index import index_folder, read_headers
from shared.dicom.pixels import read_pixels
from shared.errors import RunError, StudyError
from shared.modalities.checked_case import CheckedCase
from shared.modalities.modality import Background, Modality, Plan
from shared.preprocessing.cache import Entry, content_digest, entry_name, get_or_make, open_array
from shared.types import FloatArray

NAME = "toy-xray"
VIEWS = 2
"""CC and MLO: instances 1 and 2."""


class ToySettings(Section):
    """The section `[toy_xray]`."""

    side: int = Field(default=4, ge=1, description="Pixels along each side of a prepared view.")
    workers: int = 1

    @property
    def channels(self) -> int:
        """One a view."""
        return VIEWS

    def describe(self) -> list[tuple[str, str]]:
        """Rows of the model card."""
        return [("image", f"two views, averaged to {self.side} x {self.side} pixels")]


class ToyPlan(Plan):
    """Sides of a prepared view, and the mean brightness of the training cases, which it is divided by."""

    side: int
    level: float


@dataclass(frozen=True)
class ToyFingerprint:
    """Cases, and the sum of their mean brightness, rounded to whole numbers."""

    cases: int = 0
    brightness: int = 0

    @property
    def n(self) -> int:
        """Number of cases."""
        return self.cases

    def __add__(self, other: ToyFingerprint) -> ToyFingerprint:
        return ToyFingerprint(self.cases + other.cases, self.brightness + other.brightness)

    def scaled(self, cases: int) -> ToyFingerprint:
        """As of so many of its cases."""
        return ToyFingerprint(cases, self.brightness * cases // self.cases)

    def to_dict(self) -> dict[str, list[int]]:
        """Flat lists of whole numbers."""
        return {"cases": [self.cases], "brightness": [self.brightness]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Sequence[int]]) -> ToyFingerprint:
        """Undo `to_dict`, distrusting the sender."""
        if set(data) != {"cases", "brightness"} or any(len(values) != 1 for values in data.values()):
            raise ValueError("fingerprint: needs exactly one number of cases and one of brightness")
        cases, brightness = data["cases"][0], data["brightness"][0]
        if type(cases) is not int or type(brightness) is not int or min(cases, brightness) < 0:
            raise ValueError("fingerprint: not whole numbers")
        return cls(cases, brightness)


@dataclass(frozen=True)
class ToyCase:
    """A prepared case: `image` float32 `(view, y, x)`."""

    key: str
    labels: CaseLabels
    folder: Path

    @cached_property
    def image(self) -> FloatArray:
        """Read once."""
        return np.array(open_array(self.folder, "image"), np.float32)  # a copy: torch wants to be able to write

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"key": self.key, "labels": asdict(self.labels), "folder": str(self.folder)}


def locate(site: SiteFolder, rows: Sequence[CaseRow], needs: frozenset[str]) -> Located:
    """The two views of one breast are one case, and have one row."""
    own = [row for row in rows if row.modality == "MG"]
    return locate_exams(
        site, own, needs, modality=NAME, is_image=lambda header: header.modality == "MG", lies_at=lambda _: False
    )


def read_views(case: Case) -> FloatArray:
    """Both views, float32 `(view, y, x)`."""
    headers = read_headers(case.files) if case.path is None else index_folder(case.path)
    views = sorted((item for item in headers if item.modality == "MG"), key=lambda item: item.instance_number or 0)
    if [item.instance_number for item in views] != [1, 2]:
        raise StudyError("no_images", "a breast needs one CC and one MLO view")
    return np.stack([read_pixels(item) for item in views])


def check(case: Case, seen: CheckedCase) -> None:
    """Read the views; there are no masks."""
    seen.facts["brightness"] = float(read_views(case).mean())


def extract(case: Case, config: RunConfig, cache: Path) -> FloatArray:
    """The views, kept."""
    del config
    return _views(case, cache)


def _content(case: Case) -> str:
    return content_digest(case, sorted(case.files if case.path is None else case.path.iterdir()))


def _views(case: Case, cache: Path) -> FloatArray:
    folder = cache / "toy-views" / entry_name(_content(case))
    get_or_make(cache, folder, lambda: ({"views": read_views(case)}, {}))
    return np.asarray(open_array(folder, "views"), np.float32)


def fingerprint(views: FloatArray) -> ToyFingerprint:
    """One case's."""
    return ToyFingerprint(1, round(float(views.mean())))


def make_plan(merged: ToyFingerprint, config: RunConfig) -> ToyPlan:
    """The mean over all sites' training cases."""
    if not merged.n:
        raise RunError("no site has an X-ray")
    return ToyPlan(side=settings(config).side, level=merged.brightness / merged.n)


def prepare(case: Case, plan: ToyPlan, needs: frozenset[str], cache: Path) -> ToyCase:
    """Averages over blocks, divided by the plan's level."""
    del needs
    views = _views(case, cache)

    def make() -> Entry:
        size = views.shape[1] // plan.side, views.shape[2] // plan.side
        cut = views[:, : size[0] * plan.side, : size[1] * plan.side]
        blocks = cut.reshape(VIEWS, plan.side, size[0], plan.side, size[1]).mean(axis=(2, 4))
        return {"image": np.asarray(blocks / plan.level, np.float32)}, {}

    folder = cache / "toy-cases" / entry_name(_content(case), plan.hash())
    get_or_make(cache, folder, make)
    return ToyCase(case.key, case.row.labels, folder)


def open_case(data: Mapping[str, Any]) -> ToyCase:
    """Undo `ToyCase.to_dict`."""
    case = ToyCase(data["key"], CaseLabels(**data["labels"]), Path(data["folder"]))
    if not case.folder.is_dir():
        raise FileNotFoundError("the cache no longer holds the prepared case")
    return case


def background(case: Case) -> Background:
    """The CC view as one slice; the toy's pixels are squares of 1 mm."""
    return Background({"cc": read_views(case)[:1]}, (1.0, 1.0, 1.0))


def settings(config: RunConfig) -> ToySettings:
    """The section `[toy_xray]`."""
    return config.section_of(NAME, ToySettings)


MODALITY = Modality(
    name=NAME,
    settings=settings,
    locate=locate,
    check=check,
    extract=extract,
    fingerprint=fingerprint,
    no_cases=lambda _config: ToyFingerprint(),
    read_fingerprint=lambda data, _config: ToyFingerprint.from_dict(data),
    plan=ToyPlan,
    make_plan=make_plan,
    prepare=prepare,
    open=open_case,
    background=background,
    section=ToySettings,
)
