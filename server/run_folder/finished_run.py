"""What a report reads from a run folder, checked: nothing else enters the page."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from server.run_folder.external_access import read_opened
from server.run_folder.format import check_format, read_json
from server.run_folder.predictions import read_predictions
from server.run_folder.results import ResultRow, Results, TrainedTask, read_results
from server.run_folder.round_record import RoundRecord, read_records
from shared.config.run_config import RunConfig, load_config
from shared.errors import RunError
from shared.tasks import task_named
from shared.tasks.task import Task


class SiteFlow(BaseModel):
    """A site's cases: taken in by split, left out by reason."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    role: Literal["training", "external"]
    included: dict[str, int]
    excluded: dict[str, int] = Field(default_factory=dict)
    over_policy: bool = False  # more left out than the site's own policy allows
    classes: dict[str, int] = Field(default_factory=dict)  # by `Label.counted`; `payload.FEW` hides a count


class FinishedTask(BaseModel):
    """Everything a page says of one task of a run.

    Attributes
    ----------
    config
        The configuration as the task sees it.
    results
        The run's provenance, and the task's rows; tasks that failed are none of these.
    config_text
        `config.toml` as it stands in the folder.
    rounds
        Rounds 1, 2, ... in order.
    flow
        Sites in the configuration's order, the external centre last.
    predictions
        The per-case table of the external centre; `None` without one, also where it evaluated at its own node.
    at_node
        Whether the external centre evaluated at a node of its own: there are sums of its cases and nothing else.

    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    path: Path
    config: RunConfig
    config_text: str
    results: Results
    rounds: tuple[RoundRecord, ...]
    flow: dict[str, SiteFlow]
    predictions: pd.DataFrame | None
    at_node: bool = False

    @property
    def task(self) -> Task:
        """The task at hand."""
        return task_named(self.config.task)

    @property
    def chosen(self) -> TrainedTask:
        """The task's models that were evaluated."""
        return self.results.provenance.tasks[self.config.task]

    @property
    def external_rows(self) -> list[ResultRow]:
        """The task's figures at the external centre, of all arms and models."""
        centre = self.config.data.external
        return [row for row in self.results.rows if (row.role, row.centre) == ("external", centre)]

    @property
    def phantom(self) -> bool:
        """Whether the cases that are told of are phantoms: the external centre's, without one any site's."""
        return self.results.provenance.is_phantom(self.config.data.external)


def read_finished_run(run_dir: Path) -> list[FinishedTask]:
    """Read a finished run's folder: one entry per task that has results, in the order of training.

    `RunError` where a file is missing or damaged (the message names it), `ConfigError` where `config.toml` is no
    configuration.
    """
    check_format(run_dir)
    results = read_results(run_dir)
    config = load_config(run_dir / "config.toml")
    order = [*config.data.sites, *([config.data.external] if config.data.external else [])]
    flow = read_flow(run_dir)
    opened = read_opened(run_dir) if config.data.external is not None else None
    at_node = opened is not None and opened.at_node
    stored = config.data.external is not None and not at_node
    # Of a run in which something failed there are the tasks before it, and the external centre may be closed still.
    failed = results.provenance.outcome == "failed"
    evaluated = {row.task for row in results.rows if row.role == "external"}
    tasks = [name for name in config.tasks if name in results.provenance.tasks or not failed]
    rounds = {name: tuple(item for item in read_records(run_dir, name) if item.round > 0) for name in tasks}
    for name in tasks:
        if (known := len(rounds[name])) < results.provenance.tasks[name].rounds:
            raise RunError(
                f"{run_dir.name}/journal/{name} holds {known} of the {results.provenance.tasks[name].rounds} rounds "
                "that the results are of: the folder is not whole, copy it again with its journal"
            )
    return [
        FinishedTask(
            path=run_dir,
            config=config.for_task(name),
            config_text=(run_dir / "config.toml").read_text(encoding="utf-8"),
            results=results.model_copy(update={"rows": tuple(row for row in results.rows if row.task == name)}),
            rounds=rounds[name],
            flow={site: flow[site] for site in [*order, *sorted(set(flow) - set(order))] if site in flow},
            predictions=read_predictions(run_dir, name) if stored and (name in evaluated or not failed) else None,
            at_node=at_node,
        )
        for name in tasks
    ]


def read_flow(run_dir: Path) -> dict[str, SiteFlow]:
    """Read `cases.json`, each site's cases; `RunError` where it is missing or damaged."""
    return read_json(run_dir / "cases.json", TypeAdapter(dict[str, SiteFlow]), f"{run_dir.name}/cases.json")
