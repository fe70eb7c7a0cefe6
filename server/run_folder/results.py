"""Results: tidy rows, the run's provenance, and the files that hold them.

`results.csv` has one row a figure; `results.json` has the same rows and the provenance.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pandas as pd
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter

from server.run_folder.format import read_json
from shared import atomic_files
from shared.words import plain_words

Role = Literal["train", "validation", "test", "external"]


class ResultRow(BaseModel):
    """One figure of `results.csv`; `value` and the bounds are `None` where they do not exist, `n` counts cases."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    task: str
    arm: str
    seed: int
    centre: str
    role: Role
    metric: str
    unit: str
    value: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    model_hash: str


class TrainedTask(BaseModel):
    """The two models of a task that are evaluated: the round chosen on the sites' validation cases, and the last."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    best: str
    final: str
    best_round: int
    rounds: int


class Provenance(BaseModel):
    """What made the results.

    Attributes
    ----------
    created
        End of the run, UTC.
    git
        Commit of the code, with `-dirty` where it was changed; empty when unknown.
    tasks
        Hashes and rounds of the models of each task, in the order of training.
    seconds, peak_memory_mb
        Wall time of the run and the server's largest resident memory, 10^6 bytes.
    phantom, phantom_sites
        Whether any site's data are phantoms, and in a mixed run which sites': others hold patients'.
    outcome, missing
        "partial" where a site or a case was missing somewhere, and what: see `run_folder.participation`. Results of
        earlier versions do not say. "failed" where a task failed: they are those of the tasks before it.
    unfinished
        Tasks without results, and why.

    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    name: str
    created: AwareDatetime
    git: str
    versions: dict[str, str]
    seeds: dict[str, int]
    tasks: dict[str, TrainedTask]
    seconds: float
    peak_memory_mb: float
    phantom: bool
    phantom_sites: tuple[str, ...] = ()
    outcome: Literal["complete", "partial", "failed"] | None = None
    missing: tuple[str, ...] = ()
    unfinished: dict[str, str] = Field(default_factory=dict)

    def is_phantom(self, site: str | None) -> bool:
        """Whether a site's data are phantoms; of no site: whether any are."""
        return self.phantom and (site is None or not self.phantom_sites or site in self.phantom_sites)


class Results(BaseModel):
    """The content of `results.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: tuple[ResultRow, ...]
    provenance: Provenance


_RESULTS = TypeAdapter(Results)


def write_results(run_dir: Path, rows: Sequence[ResultRow], provenance: Provenance) -> None:
    """Write `results.csv` and `results.json`, each atomically, with the same rows in the same order."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(ResultRow.model_fields), lineterminator="\n")
    writer.writeheader()
    writer.writerows(plain_words(row.model_dump()) for row in rows)
    replace_file(run_dir / "results.csv", text.getvalue().encode())
    whole = Results(rows=tuple(rows), provenance=provenance)
    replace_file(run_dir / "results.json", (whole.model_dump_json(indent=1) + "\n").encode())


def read_results(run_dir: Path) -> Results:
    """Read `results.json`; `RunError` where it is absent or not what `write_results` writes."""
    return read_json(run_dir / "results.json", _RESULTS, f"{run_dir.name}/results.json", "; did the run finish?")


def is_finished(run_dir: Path) -> bool:
    """Whether a run has all its results: of one in which a task failed there may be some, and it can go on."""
    return (run_dir / "results.json").is_file() and read_results(run_dir).provenance.outcome != "failed"


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Write a table atomically, without its index."""
    content = io.BytesIO()
    table.to_parquet(content, index=False)
    replace_file(path, content.getvalue())


def replace_file(path: Path, content: bytes) -> None:
    """Write a file of a run's folder atomically.

    `RunError` where there is no space left for it; see `shared.atomic_files`.
    """
    atomic_files.replace_file(path, content, f"{path.parent.parent.name}/{path.parent.name}")
