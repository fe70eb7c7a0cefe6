"""What the system knows of a modality: the steps from a site's rows and files to prepared cases.

`locate` says which rows and files are one case. `extract` reads a case's images once, into the cache, before there is a
plan. `fingerprint` counts what the plan depends on; counts add up over cases and sites. `make_plan` chooses the plan
from the merged counts, on the server. `prepare` brings a case into the form that networks read, into the cache; `open`
finds it there in a later round, which reads no image.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict

from shared.cohort.labels import CaseLabels
from shared.cohort.preflight import Case, Exclusion, Locate
from shared.config.run_config import RunConfig
from shared.config.sections import Section
from shared.modalities import modality_named
from shared.modalities.checked_case import CheckedCase
from shared.preprocessing.prepare import Progress, each_case
from shared.types import FloatArray

MAJORITY_OF = 3
"""From so many sites on all others together can outweigh any one of them."""


class Settings(Protocol):
    """A modality's own section of the configuration: what the rest reads of it."""

    @property
    def channels(self) -> int:
        """Channels of a prepared image."""

    @property
    def workers(self) -> int:
        """Cases preprocessed at once at a site."""

    def describe(self) -> list[tuple[str, str]]:
        """Rows of the model card on what becomes of an image: what, and how."""


class Plan(BaseModel):
    """How every site prepares its cases of a modality: a strict, immutable record that travels as JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    def hash(self) -> str:
        """SHA-256 of the JSON with sorted keys and no blanks, hexadecimal."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


class Fingerprint(Protocol):
    """Counts over cases of one modality; `+` merges them. Nothing of a single case can be read from them."""

    @property
    def n(self) -> int:
        """Number of cases."""

    def __add__(self, other: Any) -> Any: ...

    def scaled(self, cases: int) -> Any:
        """As of so many of its cases, fewer than there are: counts in proportion, in whole numbers."""

    def to_dict(self) -> dict[str, list[int]]:
        """Flat lists of whole numbers: the only form in which a fingerprint leaves a site."""


class PreparedCase(Protocol):
    """A prepared case, the modality's own object: what the rest may rely on. Tasks know the modality that they read."""

    @property
    def key(self) -> str:
        """The case's pseudonym."""

    @property
    def labels(self) -> CaseLabels:
        """What the table says of it."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, from which `Modality.open` finds the case again."""


@dataclass(frozen=True, slots=True)
class Background:
    """A case as people look at it, on the grid of its own images, whose spacing `(z, y, x)` is in mm.

    `images` are float32 `(z, y, x)` by the name that tasks' `Pictures` ask for; a 2D image has one slice.
    """

    images: Mapping[str, FloatArray]
    spacing: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Modality:
    """One modality; its functions take and give its own kinds of fingerprint, plan and prepared case.

    Attributes
    ----------
    settings
        Its section of the configuration, from the whole.
    section
        The section's class, which stands under the modality's name; None where `RunConfig` has it as a field, as MRI's.
    locate
        From the site's folder and all rows of its table to this modality's cases, and those of its rows that are none.
    check
        Reads all of a case, as `fedbreast check` does, and notes what it sees. Raises `StudyError` where the case is of
        no use: for the same reason as `prepare` does.
    extract
        A case's images, read once and cached at the path given.
    fingerprint, no_cases
        Of what `extract` gave; and of no case, to which others are added.
    read_fingerprint
        Undoes `Fingerprint.to_dict`, distrusting the sender: raises `ValueError`.
    make_plan
        From the merged fingerprint to a plan of the class `plan`. Raises `RunError` where no site has a case.
    prepare
        A case by the plan, with the masks that the run's tasks need (`Task.needs`), cached at the path given.
    open
        Undoes `PreparedCase.to_dict`. Raises `OSError`, `ValueError`, `KeyError` or `TypeError` where the cache holds
        the case no more.
    background
        For pictures.
    teaches
        Whether a prepared case can be learnt from: not where its crop misses the reference. It is left out in training
        alone; where models are evaluated the miss is theirs.

    """

    name: str
    settings: Callable[[RunConfig], Settings]
    locate: Locate
    check: Callable[[Case, CheckedCase], None]
    extract: Callable[[Case, RunConfig, Path], Any]
    fingerprint: Callable[[Any], Fingerprint]
    no_cases: Callable[[RunConfig], Fingerprint]
    read_fingerprint: Callable[[Mapping[str, Sequence[int]], RunConfig], Fingerprint]
    plan: type[Plan]
    make_plan: Callable[[Any, RunConfig], Plan]
    prepare: Callable[[Case, Any, frozenset[str], Path], PreparedCase]
    open: Callable[[Mapping[str, Any]], PreparedCase]
    background: Callable[[Case], Background]
    section: type[Section] | None = None
    teaches: Callable[[Any], bool] = lambda _case: True

    def __reduce__(self) -> tuple[Callable[[str], Modality], tuple[str]]:
        """Pickle the name alone: processes that prepare cases look it up in their own table."""
        return modality_named, (self.name,)

    def fingerprint_cases(
        self,
        cases: Sequence[Case],
        config: RunConfig,
        cache: Path,
        *,
        workers: int = 1,
        on_progress: Progress | None = None,
    ) -> tuple[Any, list[Exclusion]]:
        """Add up the fingerprints of cases; the rest as `each_case`."""
        work = partial(self._fingerprint, config=config, cache=cache)
        known, excluded = each_case(cases, work, workers, on_progress, self.extract.__module__)
        return sum(known, start=self.no_cases(config)), excluded

    def merge(self, fingerprints: Sequence[Any], config: RunConfig) -> Any:
        """Add up the sites' fingerprints, of which none weighs as much as all others: the median lies among theirs.

        A site with more cases than that counts as one with as many; of two sites with cases none can be outweighed.
        """
        cases = [item.n for item in fingerprints if item.n]
        most = sum(cases) - max(cases) - 1 if len(cases) >= MAJORITY_OF else sum(cases)
        weighed = [item.scaled(most) if item.n > most else item for item in fingerprints]
        return sum(weighed, start=self.no_cases(config))

    def prepare_cases(
        self,
        cases: Sequence[Case],
        plan: Plan,
        needs: frozenset[str],
        cache: Path,
        *,
        workers: int = 1,
        on_progress: Progress | None = None,
    ) -> tuple[list[PreparedCase], list[Exclusion]]:
        """Prepare cases by the federation's plan, with the masks that the run's tasks need; the rest as `each_case`."""
        work = partial(self._prepare, plan=plan, needs=needs, cache=cache)
        return each_case(cases, work, workers, on_progress, self.prepare.__module__)

    def _fingerprint(self, case: Case, config: RunConfig, cache: Path) -> Fingerprint:
        return self.fingerprint(self.extract(case, config, cache))

    def _prepare(self, case: Case, plan: Plan, needs: frozenset[str], cache: Path) -> PreparedCase:
        return self.prepare(case, plan, needs, cache)
