"""What a report reads from a run folder, checked: nothing else enters the page."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from server.evaluation.external_validation import OPENED
from server.run_folder.predictions import read_predictions
from server.run_folder.results import Results, TrainedTask, read_results
from shared.config.run_config import RunConfig, load_config
from shared.config.sections import TaskName
from shared.errors import RunError
from shared.messages.payload import Sums, sums_of


class SiteRound(BaseModel):
    """A site's part in one round; the journal may hold more."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    status: Literal["accepted", "absent", "refused", "failed"]
    reason: str = ""
    cases: int = 0
    seconds: float | None = None
    loss: float | None = None
    validation: dict[str, float] | None = None
    attempts: int = 1
    skipped: int = 0


class Round(BaseModel):
    """One committed round, `journal/TASK/round-NNN.json`."""

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())

    task: str
    round: int
    model_hash: str
    seconds: float
    sites: dict[str, SiteRound] = Field(default_factory=dict)
    judged: dict[str, SiteRound] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _has_sums(self) -> Round:
        self.validation()
        return self

    def sums(self, site: str) -> Sums | None:
        """The round's new global model on a site's validation cases."""
        found = self.sites[site].validation
        return None if found is None else sums_of(self.task).from_dict(found)

    def validation(self) -> Sums:
        """All sites' validation cases together: what chooses the best round."""
        known = [sums for site in self.sites if (sums := self.sums(site)) is not None]
        return sum(known, sums_of(self.task)())


class SiteFlow(BaseModel):
    """A site's cases: taken in by split, left out by reason."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    role: Literal["training", "external"]
    included: dict[str, int]
    excluded: dict[str, int] = Field(default_factory=dict)
    over_policy: bool = False  # more left out than the site's own policy allows
    classes: dict[str, int] = Field(default_factory=dict)  # by `payload.CLASS_NAMES`; `payload.FEW` hides a count


class RunFolder(BaseModel):
    """Everything a page says of one task of a run.

    Attributes
    ----------
    config
        The configuration as the task sees it.
    results
        The run's provenance, and the task's rows.
    config_text
        `config.toml` as it stands in the folder.
    rounds
        Rounds 1, 2, ... in order.
    flow
        Sites in the configuration's order, the external centre last.
    predictions
        The per-case table of the external centre; `None` without one, also where it judged at its own node.
    at_node
        Whether the external centre judged at a node of its own: there are sums of its cases and nothing else.

    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    path: Path
    config: RunConfig
    config_text: str
    results: Results
    rounds: tuple[Round, ...]
    flow: dict[str, SiteFlow]
    predictions: pd.DataFrame | None
    at_node: bool = False

    @property
    def task(self) -> TaskName:
        """The task at hand."""
        return self.config.task

    @property
    def chosen(self) -> TrainedTask:
        """The task's models that were judged."""
        return self.results.provenance.tasks[self.task]

    @property
    def judge(self) -> str:
        """The external centre in a sentence."""
        node = f" ({self.config.data.external}, at its own node)" if self.at_node else ""
        return f"a centre that never trained{node}"


def read_run_folder(run_dir: Path) -> list[RunFolder]:
    """Read a finished run's folder, a task each, in the order of training.

    Raises
    ------
    RunError
        A file is missing or damaged; the message names it.
    ConfigError
        `config.toml` is not a configuration.

    """
    results = read_results(run_dir)
    config = load_config(run_dir / "config.toml")
    order = [*config.data.sites, *([config.data.external] if config.data.external else [])]
    flow = read_flow(run_dir)
    at_node = config.data.external is not None and _judged_at_node(run_dir)
    stored = config.data.external is not None and not at_node
    found = []
    for name in config.tasks:
        journal = (run_dir / "journal" / name).glob("round-*.json")
        rounds = sorted((_read_round(file) for file in journal), key=lambda item: item.round)
        found.append(
            RunFolder(
                path=run_dir,
                config=config.for_task(name),
                config_text=(run_dir / "config.toml").read_text(encoding="utf-8"),
                results=results.model_copy(update={"rows": tuple(row for row in results.rows if row.task == name)}),
                rounds=tuple(item for item in rounds if item.round > 0),
                flow={site: flow[site] for site in [*order, *sorted(set(flow) - set(order))] if site in flow},
                predictions=read_predictions(run_dir, name) if stored else None,
                at_node=at_node,
            )
        )
    return found


def _read_round(file: Path) -> Round:
    try:
        return Round.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise RunError(f"journal/{file.parent.name}/{file.name} cannot be read ({error})") from error


class _Opened(BaseModel):
    """How the external centre was opened."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    at_node: bool = False


def _judged_at_node(run_dir: Path) -> bool:
    path = run_dir / OPENED
    if not path.is_file():
        return False
    try:
        return _Opened.model_validate_json(path.read_bytes()).at_node
    except (OSError, ValidationError) as error:
        raise RunError(f"{run_dir.name}/{OPENED} cannot be read ({error})") from error


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
