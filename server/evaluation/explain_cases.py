"""What the run keeps of its explanations: figures of some external cases, and one case's picture a class.

What is explained, and how, the task declares (`shared.tasks.explanation`). As with pictures, what is stored is what the
page shows, so that it can be made again without the images.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import nn

from server.run_folder.predictions import FOLDER
from server.run_folder.results import replace_file, write_parquet
from shared.cohort.site_folder import patient_of
from shared.config.run_config import RunConfig
from shared.errors import ConfigError, RunError
from shared.inference import pick_device
from shared.modalities.modality import Plan, PreparedCase
from shared.reproducibility import derive_seed
from shared.tasks import task_named
from shared.tasks.explanation import REST, Explanation, class_titles
from shared.tasks.task import Task

NETWORKS = ("trained", "untrained")
_FIGURES = ("reader", "region", "value")


@dataclass(frozen=True, slots=True)
class ExplainedCase:
    """One stored case: its class, what the network gave it, and the arrays of `Explanation.picture`."""

    name: str
    probability: float
    arrays: dict[str, npt.NDArray[Any]]


def explain_centre(
    run_dir: Path,
    cases: Sequence[PreparedCase],
    view: RunConfig,
    plan: Plan,
    model: nn.Module,
    answers: pd.DataFrame,
) -> None:
    """Explain the chosen model on the external centre's first cases of each class, and store it.

    The run's folder gets `predictions/<stem>.parquet` and `pictures/<stem>-<class>.npz`. The same cases are also
    explained by the network before training, its last layers given random weights in place of their zeros: what it
    shows was not learnt. `answers` is the model's per-case table in the reference outline.
    """
    task = task_named(view.task)
    how = _explanation(task)
    start, few = untrained(view), view.evaluation.explained_per_subtype
    tables = [explained_table(network, cases, view, plan, few) for network in (start, model)]
    kept = pd.concat(
        [table.assign(network=network) for network, table in zip(reversed(NETWORKS), tables, strict=True)],
        ignore_index=True,
    )
    write_parquet(run_dir / _table_path(how), kept)
    by_key, rows = {case.key: case for case in cases}, answers.set_index("case").to_dict("index")
    for name, own in tables[1].groupby(how.class_column):
        key = str(own["case"].min())
        arrays: dict[str, Any] = dict(how.picture(model, start, by_key[key], plan, view, str(name)))
        arrays["probability"] = np.float64(_probability(rows[key], task, str(name)))
        content = io.BytesIO()
        np.savez_compressed(content, allow_pickle=False, **arrays)
        replace_file(_picture_path(run_dir, how, str(name)), content.getvalue())


def explained_table(
    model: nn.Module, cases: Sequence[PreparedCase], view: RunConfig, plan: Plan, per_class: int
) -> pd.DataFrame:
    """Figures of the first so many cases of each class in order of their keys; those without a class are passed over.

    One row for each case and figure: case, patient, class, and who looks, where, and how much. `ConfigError` where the
    task does not declare how it is explained; `StudyError` as the task's own function.
    """
    how = _explanation(task_named(view.task))
    torch.set_num_threads(view.compute.threads)
    model.to(pick_device(view))
    rows = [
        (case.key, patient_of(case.key), name, *figure)
        for case, name in _first(how, cases, view, per_class)
        for figure in how.figures(model, case, plan, view, name)
    ]
    columns = ["case", "patient", how.class_column, *_FIGURES]
    return pd.DataFrame(rows, columns=columns).astype({"value": "float64"})


def _explanation(task: Task) -> Explanation:
    if task.explained is None:
        raise ConfigError(f"'{task.name}' does not declare how its network is explained")
    return task.explained


def _first(
    how: Explanation, cases: Sequence[PreparedCase], view: RunConfig, per_class: int
) -> list[tuple[PreparedCase, str]]:
    """The first cases of each class in order of their keys, with it."""
    taken = Counter[str]()
    chosen = []
    for case in sorted(cases, key=lambda case: case.key):
        name = how.class_of(case.labels, view)
        if name is not None and taken[name] < per_class:
            taken[name] += 1
            chosen.append((case, name))
    return chosen


def _probability(row: Mapping[Hashable, Any], task: Task, name: str) -> float:
    """What a row of the per-case table says of a class."""
    return 1.0 - float(row[f"score_{task.scored[0].name}"]) if name == REST else float(row[f"score_{name}"])


def untrained(view: RunConfig) -> nn.Module:
    """The network before training, as a network that starts from zero would be if it said anything."""
    model = task_named(view.task).learner.build_model(view)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(view.seed, "untrained"))
        for name, layer in model.named_modules():
            if isinstance(layer, nn.Linear) and name.endswith("head"):
                layer.reset_parameters()
    return model


def read_table(run_dir: Path, how: Explanation) -> dict[str, pd.DataFrame]:
    """The stored table by network; empty where nothing was explained.

    Raises
    ------
    RunError
        The file is not such a table.

    """
    path = run_dir / _table_path(how)
    if not path.is_file():
        return {}
    try:
        kept = pd.read_parquet(path, columns=["case", "patient", how.class_column, *_FIGURES, "network"])
    except (OSError, ValueError) as error:
        raise RunError(f"{run_dir.name}/{_table_path(how)} cannot be read: delete it, or run again") from error
    return {network: kept[kept["network"] == network].drop(columns="network") for network in NETWORKS}


def read_cases(run_dir: Path, task: Task, needed: Collection[str]) -> list[ExplainedCase]:
    """The stored cases in the order of the task's classes, with at least the arrays that are `needed`.

    Raises
    ------
    RunError
        A file is not what was written. Nothing is unpickled.

    """
    how = _explanation(task)
    paths = {name: _picture_path(run_dir, how, name) for name in class_titles(task.scored)}
    return [_read(path, name, needed) for name, path in paths.items() if path.is_file()]


def _table_path(how: Explanation) -> Path:
    return FOLDER / f"{how.stem}.parquet"


def _picture_path(run_dir: Path, how: Explanation, name: str) -> Path:
    return run_dir / "pictures" / f"{how.stem}-{name}.npz"


def _read(file: Path, name: str, needed: Collection[str]) -> ExplainedCase:
    try:
        with np.load(io.BytesIO(file.read_bytes()), allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
        if missing := set(needed) - set(arrays):
            raise ValueError(f"without {missing}")
        return ExplainedCase(name, float(arrays.pop("probability")), arrays)
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise RunError(f"pictures/{file.name} cannot be read: delete it, or run again") from error
