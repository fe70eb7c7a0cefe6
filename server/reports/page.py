"""The page: from a finished run folder to one self-contained HTML file.

Every number shown is read from `results.json`; figures, tests between arms, worst cases and pictures from the stored
per-case tables and arrays. What is shown of a task, the task declares. Made again from the same
folder, the page has the same bytes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from server.reports import metric_text
from server.reports.sections import training_course
from server.reports.sections.external_data import FEWEST, external_data
from server.reports.sections.external_sums import external_sums
from server.reports.sections.task_section import task_section
from server.reports.templates import environment
from server.run_folder.finished_run import FinishedTask, read_finished_run
from server.run_folder.participation import missing, round_rows
from server.run_folder.results import replace_file
from shared.runtime.project import project_root

READY_STUDY = Path("docs/example-study/report.html")
"""A finished study of the demo's phantoms, below the project's root."""


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
    at_node = external_sums(runs, data)
    curves = [drawn for item in runs for drawn in training_course.curves(item)]
    return {
        "name": made.name,
        "tasks": ", then ".join(item.task.title for item in runs),
        "title": _title(runs),
        "averaged": _averaged(runs),
        "told": [part for part in sections if not part["elsewhere"]],
        "remarks": _remarks(runs, sections, at_node),
        "ready_study": _ready_study(run) if made.phantom else None,
        "created": f"{made.created:%Y-%m-%d %H:%M} UTC",
        "phantom": made.phantom,
        "confidence": f"{config.evaluation.confidence:.0%}",
        "resamples": f"{config.evaluation.bootstrap:,}",
        "at_node": at_node,
        "sections": sections,
        "flow": training_course.flow(run),
        "classes": training_course.classes(runs),
        "curves": curves,
        "ledger": [training_course.ledger(item) for item in runs],
        "contents": [
            *([("external", "External results")] if at_node else []),
            *((part["anchor"], part["title"]) for part in sections),
            ("cases", "Cases"),
            *([("learning", "Learning")] if curves else []),
            ("ledger", "Who took part"),
            ("provenance", "Provenance"),
            ("limits", "What this is not"),
        ],
        "provenance": _provenance(runs),
        "limits": _limits(run),
        "config_text": run.config_text,
    }


def _ready_study(run: FinishedTask) -> str | None:
    """Address of the ready study, relative to the page; nothing where it does not lie."""
    study = project_root() / READY_STUDY
    return quote(Path(os.path.relpath(study, run.path.resolve())).as_posix()) if study.is_file() else None


def _title(runs: list[FinishedTask]) -> str:
    run = runs[0]
    number = len(run.config.data.sites)
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    count = words[number] if number < len(words) else str(number)
    noun = ("phantom site" if run.phantom else "hospital") + ("" if number == 1 else "s")
    where = "at one that never trained" if run.config.data.external else "nowhere else"
    titles = ", ".join(item.task.title[:1].lower() + item.task.title[1:] for item in runs)
    return metric_text.opening(f"{titles}: trained at {count} {noun}, evaluated {where}")


def _averaged(runs: list[FinishedTask]) -> str:
    title = runs[0].config.federation.algorithm.title
    rounds = sorted({len(run.rounds) for run in runs})
    number = (
        f"{rounds[0]} to {metric_text.counted(rounds[-1], 'round')}"
        if len(rounds) > 1
        else metric_text.counted(rounds[0], "round")
    )
    return f"The sites' models were averaged by {title} over {number}; no image left a site."


def _remarks(runs: list[FinishedTask], sections: list[dict[str, Any]], at_node: dict[str, Any] | None) -> list[str]:
    """What a reader must know beside the sentence: too few patients, and sites that missed a round."""
    lines = []
    if any(0 < part["patients"] < FEWEST for part in sections):
        few = metric_text.listed([part["title"] for part in sections if 0 < part["patients"] < FEWEST])
        lines.append(
            f"Fewer than {FEWEST} patients evaluated ({few}): the intervals are too narrow to be trusted, and nothing "
            "should be ranked by these figures."
        )
    if at_node and any(part["n"] < FEWEST for part in at_node["parts"]):
        lines.append(f"Fewer than {FEWEST} cases evaluated: nothing should be ranked by these figures.")
    made = runs[0].results.provenance
    # A folder of an earlier version says nothing of its end: its journal does.
    rows = [row for run in runs for item in run.rounds for row in round_rows(item, run.config.data.sites)]
    parts = made.missing if made.outcome else missing(rows)
    return [*lines, *(f"{part}: see who took part." for part in parts)]


def _provenance(runs: list[FinishedTask]) -> list[tuple[str, str]]:
    made = runs[0].results.provenance
    minutes, seconds = divmod(round(made.seconds), 60)
    several = len(runs) > 1
    models = []
    for run in runs:
        where = f"{run.task.name}, " if several else ""
        chosen = run.chosen
        models += [
            (f"{where}model, best", chosen.best),
            (f"{where}model, final", chosen.final),
            (f"{where}chosen round", f"{chosen.best_round} of {chosen.rounds}, by the sites' validation cases"),
        ]
    return [
        ("run", made.name),
        ("finished", made.created.isoformat()),
        ("outcome", made.outcome or "not recorded"),
        ("tasks", ", ".join(run.task.name for run in runs)),
        ("data", "phantoms (generated)" if made.phantom else "site folders"),
        ("code", made.git or "unknown commit"),
        *models,
        ("seeds", ", ".join(f"{name} {value}" for name, value in made.seeds.items())),
        ("duration", f"{minutes} min {seconds} s"),
        ("server's peak memory", f"{made.peak_memory_mb:,.0f} MB"),
        ("versions", ", ".join(f"{name} {value}" for name, value in made.versions.items())),
    ]


def _limits(run: FinishedTask) -> list[str]:
    lines = ["It is not a medical device and no evidence for clinical use."]
    if run.phantom:
        lines.append(
            "Phantoms follow equations: they can show that the software works, not how it would do in patients."
        )
    if run.config.data.phantom is not None:
        lines.append(
            f"How far the phantom centres differ (shift {run.config.data.phantom.shift:g}) was chosen after trials, in "
            "which federation gained at 0.5, hardly at 1, and lost at 1.5."
        )
    if run.config.data.external is not None:
        lines += [
            "One external centre is one sample of centres: an interval is about this centre, not about the next.",
            "Intervals reflect which patients were drawn, not what another training seed would give.",
        ]
    lines += [
        "A reference outline was drawn once for each case: disagreement between readers is not in these figures.",
        "The round was chosen on validation cases of the training sites; figures on those cases are optimistic.",
        "Every case here holds a lesion by design unless stated: no false-alarm rate in healthy breasts follows.",
    ]
    return lines
