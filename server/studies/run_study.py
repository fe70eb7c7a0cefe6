"""A whole study: its folder, its cells, and what is made of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import tomli_w

from server.deployment.simulation import ensure_data
from server.evaluation.study_statistics.analysis import analyse
from server.run_folder.finished_study import CONFIG, read_finished_study
from server.run_folder.format import check_format, write_format
from server.run_folder.results import replace_file
from server.run_folder.study_tables import write_tables
from server.studies.collect import collect
from server.studies.design import Design, differences
from server.studies.runner import Moment, run_cells
from shared.config.run_config import RunConfig, load_config
from shared.errors import ConfigError
from shared.runtime.locks import hold_lock
from shared.tasks import task_named

Progress = Callable[[str, int, int, str], None]


def run_study(
    config: RunConfig,
    root: Path,
    *,
    jobs: int,
    ray_address: str = "",
    on_progress: Progress,
    on_moment: Callable[[Moment], None],
) -> Path:
    """Run or resume a study in its folder to its report; return the report's path.

    `config.study` says what is left out, the arms and the seeds; `jobs` and `ray_address` are as `runner.run_cells`
    takes them. `on_progress` is told of what comes before and after the cells (phase, done, total, text), `on_moment`
    how far the cells are. `ConfigError` where the folder holds another study, or too few centres are left when one is
    held out; `RunError` where cells failed, or another process runs this study.
    """
    design = Design(config)
    for held_out in design.folds:
        design.fold(held_out)
    for name in config.tasks:
        task_named(name).check()
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"cannot make the study's folder {root} ({error.strerror}): name another with --out"
        ) from error
    refusal = f"another process runs the study in {root.name}: wait for it, or name another --out"
    with hold_lock(root / ".lock", refusal):
        _begin(root, config)
        ensure_data(config, on_progress)
        run_cells(design, root, jobs=jobs, ray_address=ray_address, on_moment=on_moment)
        on_progress("statistics", 0, 1, "")
        collect(root, design)
        report = make_report(root)
        on_progress("statistics", 1, 1, "")
        return report


def make_report(root: Path) -> Path:
    """Statistics, page and model card from what `collect` gathered; the same folder gives the same numbers and bytes.

    `RunError` where the study is not finished, or a file of it is damaged.
    """
    from server.reports.study.model_card import write_model_card
    from server.reports.study.page import build_study_report

    study = read_finished_study(root)
    tables = analyse(study.predictions, study.cohort, study.config)
    write_tables(root, tables)
    whole = {"provenance": study.provenance.model_dump(mode="json")} | {
        name: json.loads(getattr(tables, name).to_json(orient="records", double_precision=15))
        for name in ("results", "summary", "comparisons", "meta", "subgroups")
    }
    replace_file(root / "results.json", (json.dumps(whole, indent=1) + "\n").encode())
    write_model_card(root)
    return build_study_report(root)


def _begin(root: Path, config: RunConfig) -> None:
    """Write the study's configuration, or check that it is the one that the folder was begun with."""
    raw = config.model_dump(mode="json", exclude_none=True)
    path = root / CONFIG
    if path.is_file():
        check_format(root)
        before = load_config(path).model_dump(mode="json", exclude_none=True)
        if changed := differences(before, raw):
            raise ConfigError(
                f"{root.name} holds a study with other values of {', '.join(changed)}, and a centre that was opened "
                "for one design evaluates no other: name another folder with --out, or call it with the values it has"
            )
        return
    if any(item.name != ".lock" for item in root.iterdir()):
        raise ConfigError(f"{root.name} holds something else than a study: name another folder with --out")
    write_format(root)
    replace_file(path, tomli_w.dumps(raw).encode())
