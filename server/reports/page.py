"""The page: from a finished run folder to one self-contained HTML file.

Every number shown is read from `results.json`; figures, tests between arms, worst cases and pictures from the stored
per-case tables and arrays. What is shown of a task, the task declares. Made again from the same
folder, the page has the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from server.reports import metric_text
from server.reports.sections import training_course
from server.reports.sections.both_modalities import both_modalities
from server.reports.sections.external_data import FEWEST, external_data
from server.reports.sections.site_sums import external_sums
from server.reports.sections.task_section import task_section
from server.reports.templates import environment
from server.run_folder.finished_run import FinishedTask, read_finished_run
from server.run_folder.participation import missing, round_rows
from server.run_folder.results import replace_file

READY_STUDY = "docs/example-study/report.html"
"""A finished study of the demo's phantoms, below the project's root: told, not linked, as a page is mailed alone."""


def build_report(run_dir: Path) -> Path:
    """Write `report.html` into a finished run's folder, atomically, and return its path.

    Raises
    ------
    RunError
        The folder lacks a file of a finished run, or one is damaged.
    ConfigError
        `config.toml` is not a configuration.

    """
    runs = read_finished_run(run_dir)
    text = environment().get_template("page.html").render(_content(runs))
    replace_file(run_dir / "report.html", text.encode())
    return run_dir / "report.html"


def _content(runs: list[FinishedTask]) -> dict[str, Any]:
    """Everything the template names."""
    run = runs[0]
    config, made = run.config, run.results.provenance
    data = [external_data(item, runs) for item in runs]
    sections = [task_section(item, one, runs) for item, one in zip(runs, data, strict=True)]
    both = both_modalities(runs, data)
    at_node = external_sums(runs, data)
    curves = [drawn for item in runs for drawn in training_course.curves(item)]
    return {
        "name": made.name,
        "tasks": ", then ".join(item.task.title for item in runs),
        "title": _title(runs),
        "averaged": _averaged(runs),
        "told": [*(part for part in sections if not part["elsewhere"]), *both],
        "few": metric_text.listed([part["title"] for part in [*sections, *both] if 0 < part["patients"] < FEWEST]),
        "fewest": FEWEST,
        "missing": _missing(runs),
        "ready_study": READY_STUDY if made.phantom and not made.phantom_sites else None,
        "phantom": run.phantom,
        "data_of": metric_text.data_of(made),
        "confidence": f"{config.evaluation.confidence:.0%}",
        "resamples": f"{config.evaluation.bootstrap:,}",
        "at_node": at_node,
        "sections": sections,
        "both": both,
        "flow": training_course.flow(run),
        "classes": training_course.classes(runs),
        "curves": curves,
        "made": made,
        "runs": runs,
    }


def _title(runs: list[FinishedTask]) -> str:
    data, made = runs[0].config.data, runs[0].results.provenance
    kinds = {made.is_phantom(site) for site in data.sites}
    noun = "site" if len(kinds) > 1 else "phantom site" if kinds == {True} else "hospital"
    noun += "" if len(data.sites) == 1 else "s"
    other = "phantom site" if runs[0].phantom else "hospital"
    one = other if data.external and {made.is_phantom(data.external)} != kinds else "one"
    where = f"at {'a ' if one != 'one' else ''}{one} that never trained" if data.external else "nowhere else"
    names = {item.task.name for item in runs}
    titles = ", ".join(metric_text.within(item.task.title) for item in runs if item.task.rival_of not in names)
    return metric_text.opening(
        f"{titles}: trained at {metric_text.in_words(len(data.sites))} {noun}, evaluated {where}"
    )


def _averaged(runs: list[FinishedTask]) -> str:
    title = runs[0].config.federation.algorithm.title
    rounds = sorted({len(run.rounds) for run in runs})
    number = ("" if len(rounds) == 1 else f"{rounds[0]} to ") + metric_text.counted(rounds[-1], "round")
    return f"The sites' models were averaged by {title} over {number}; no image left a site."


def _missing(runs: list[FinishedTask]) -> Sequence[str]:
    """Sites that missed a round, and what else was not there."""
    made = runs[0].results.provenance
    # A folder of an earlier version says nothing of its end: its journal does.
    rows = [row for run in runs for item in run.rounds for row in round_rows(item, run.config.data.sites)]
    return made.missing if made.outcome else missing(rows)
