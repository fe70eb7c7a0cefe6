"""A finished study as `collect` left it, read and checked: what statistics, page and model card start from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from server.run_folder.format import check_format
from shared.config.run_config import RunConfig, load_config
from shared.errors import RunError

CONFIG = "study.toml"


@dataclass(frozen=True, slots=True)
class Gathered:
    """The files that statistics need."""

    config: RunConfig
    predictions: dict[str, pd.DataFrame]
    cohort: pd.DataFrame
    provenance: dict[str, Any]


def read_gathered(root: Path) -> Gathered:
    """Read a study's folder.

    Raises
    ------
    RunError
        A file is missing or damaged: the study is not finished.
    ConfigError
        `study.toml` is not a configuration.

    """
    check_format(root)
    config = load_config(root / CONFIG)
    try:
        return Gathered(
            config,
            {task: pd.read_parquet(root / "predictions" / f"{task}.parquet") for task in config.tasks},
            pd.read_parquet(root / "cohort.parquet"),
            json.loads((root / "provenance.json").read_text(encoding="utf-8")),
        )
    except (OSError, ValueError) as error:
        raise RunError(
            f"{root.name} is no finished study: call `fedbreast study` with its configuration and --out again "
            f"({type(error).__name__})"
        ) from error
