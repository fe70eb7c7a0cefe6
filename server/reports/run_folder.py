"""What a report reads from a run folder, checked: nothing else enters the page."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from server.predictions import PREDICTIONS, read_predictions
from server.results import Results, read_results
from shared.config import RunConfig, load_config
from shared.errors import RunError
from shared.metrics.counts import SegmentationSums


class SiteRound(BaseModel):
    """A site's part in one round; the journal may hold more."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    status: Literal["accepted", "absent", "refused", "failed"]
    reason: str = ""
    cases: int = 0
    seconds: float | None = None
    loss: float | None = None
    validation: dict[str, float] | None = None

    @field_validator("validation")
    @classmethod
    def _are_sums(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        if value is not None:
            SegmentationSums.from_dict(value)
        return value

    @property
    def sums(self) -> SegmentationSums | None:
        """The round's new global model on the site's validation cases."""
        return None if self.validation is None else SegmentationSums.from_dict(self.validation)


class Round(BaseModel):
    """One committed round, `journal/round-NNN.json`."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())

    round: int
    model_hash: str
    seconds: float
    sites: dict[str, SiteRound] = Field(default_factory=dict)

    def validation(self) -> SegmentationSums:
        """All sites' validation cases together: what chooses the best round."""
        known = [site.sums for site in self.sites.values() if site.sums is not None]
        return sum(known, SegmentationSums())


class SiteFlow(BaseModel):
    """A site's cases: taken in by split, left out by reason."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    role: Literal["training", "external"]
    included: dict[str, int]
    excluded: dict[str, int] = Field(default_factory=dict)
    over_policy: bool = False  # more left out than the site's own policy allows


class RunFolder(BaseModel):
    """Everything a page is made of.

    Attributes
    ----------
    config_text
        `config.toml` as it stands in the folder.
    rounds
        Rounds 1, 2, ... in order.
    flow
        Sites in the configuration's order, the external centre last.
    predictions
        The per-case table of the external centre; `None` without one.

    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    path: Path
    config: RunConfig
    config_text: str
    results: Results
    rounds: tuple[Round, ...]
    flow: dict[str, SiteFlow]
    predictions: pd.DataFrame | None


def read_run_folder(run_dir: Path) -> RunFolder:
    """Read a finished run's folder.

    Raises
    ------
    RunError
        A file is missing or damaged; the message names it.
    ConfigError
        `config.toml` is not a configuration.

    """
    results = read_results(run_dir)
    config = load_config(run_dir / "config.toml")
    if config.data.external is not None and not (run_dir / PREDICTIONS).is_file():
        raise RunError(f"{run_dir.name}/{PREDICTIONS} is missing: the external centre was not judged")
    order = [*config.data.sites, *([config.data.external] if config.data.external else [])]
    flow = read_flow(run_dir)
    rounds = sorted((_read_round(file) for file in (run_dir / "journal").glob("round-*.json")), key=lambda r: r.round)
    return RunFolder(
        path=run_dir,
        config=config,
        config_text=(run_dir / "config.toml").read_text(encoding="utf-8"),
        results=results,
        rounds=tuple(item for item in rounds if item.round > 0),
        flow={name: flow[name] for name in [*order, *sorted(set(flow) - set(order))] if name in flow},
        predictions=read_predictions(run_dir) if config.data.external is not None else None,
    )


def _read_round(file: Path) -> Round:
    try:
        return Round.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise RunError(f"journal/{file.name} cannot be read ({error})") from error


def read_flow(run_dir: Path) -> dict[str, SiteFlow]:
    """Read `cases.json`: each site's cases.

    Raises
    ------
    RunError
        It is missing or damaged.

    """
    try:
        return TypeAdapter(dict[str, SiteFlow]).validate_json((run_dir / "cases.json").read_bytes())
    except (OSError, ValidationError) as error:
        raise RunError(f"{run_dir.name}/cases.json cannot be read ({error})") from error
