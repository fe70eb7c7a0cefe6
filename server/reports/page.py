"""The page: from a finished run folder to one self-contained HTML file.

Every number shown is read from `results.json`; figures, tests between arms, worst cases and pictures from the stored
per-case tables and arrays. Made again from the same folder, the page has the same bytes.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2

from server.reports import metric_text
from server.reports.sections import external_sums, lesion_segmentation, training_course
from server.reports.sections.breast_segmentation import tissue_section
from server.reports.sections.model_comparison import classifier_sections
from server.reports.sections.saliency import explanations
from server.run_folder.finished_run import RunFolder, read_run_folder
from server.run_folder.participation import missing, round_rows
from server.run_folder.results import replace_file
from shared.runtime.project import project_root

# Part of the content, anchor on the page, words of the link; in the order of the page.
_ANCHORS = (
    ("external", "external", "External results"),
    ("at_node", "external", "External results"),
    ("pictures", "pictures", "Pictures"),
    ("comparison", "comparison", "Comparison"),
    ("flow", "cases", "Cases"),
    ("curves", "learning", "Learning"),
    ("internal", "internal", "Training sites"),
    ("ledger", "ledger", "Who took part"),
)
_FEWEST_PATIENTS = 10
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
    runs = read_run_folder(run_dir)
    explained = metric_text.meanings(runs[0].config.evaluation)
    # Flower ships an app without its HTML: a server started by it finds the template in the checkout.
    homes = (Path(__file__).parent, project_root() / "server" / "reports")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([here / name for here in homes for name in (".", "sections", "figures")]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "label": metric_text.label,
        "unit": metric_text.unit,
        "value": metric_text.value,
        "interval": metric_text.interval,
        "fixed": metric_text.fixed,
        "meaning": lambda row: explained.get(row.metric, ""),
    }
    text = environment.get_template("page.html").render(_content(runs))
    replace_file(run_dir / "report.html", text.encode())
    return run_dir / "report.html"


def _content(runs: list[RunFolder]) -> dict[str, Any]:
    """Everything the template names; lesions come first where a task outlines them."""
    by_task = {item.task: item for item in runs}
    run = by_task.get("lesion-segmentation", runs[0])
    config, made = run.config, run.results.provenance
    outlines = run.task == "lesion-segmentation"
    external = lesion_segmentation.external(run) if outlines else None
    parts = {
        "external": external,
        "at_node": external_sums.section(runs),
        "pictures": lesion_segmentation.pictures(run) if external else [],
        "comparison": lesion_segmentation.comparison(run) if outlines else None,
        "flow": training_course.flow(run),
        "curves": [drawn for item in runs for drawn in training_course.curves(item)],
        "internal": lesion_segmentation.internal(run) if outlines else [],
        "ledger": [training_course.ledger(item) for item in runs],
    }
    tissues = tissue_section(by_task["breast-segmentation"]) if "breast-segmentation" in by_task else None
    explained = by_task.get("subtype-ensemble")
    explained_part = explanations(explained) if explained else None
    classifiers = classifier_sections(runs)
    told = [part for part in classifiers if not part["elsewhere"]]
    contents = [(anchor, text) for key, anchor, text in _ANCHORS if parts[key]]
    place = next((index for index, (anchor, _) in enumerate(contents) if anchor == "cases"), 0)
    looks = [("explanations", "Where it looks")] if explained_part else []
    measured = [("tissues", "Breast and density")] if tissues else []
    contents[place:place] = [*measured, *((part["anchor"], part["title"]) for part in classifiers), *looks]
    return parts | {
        "tissues": tissues,
        "classifiers": classifiers,
        "explanations": explained_part,
        "classes": training_course.classes(run) if classifiers else None,
        "name": made.name,
        "task": ", then ".join(item.task for item in runs),
        "title": _title(runs),
        "sentence": " ".join(
            [
                *([_sentence(run)] if outlines else []),
                *([tissues["sentence"]] if tissues else []),
                *(_named(part, told) for part in told),
            ]
        ),
        "remarks": _remarks(runs, parts),
        "ready_study": _ready_study(run) if made.phantom else None,
        "created": f"{made.created:%Y-%m-%d %H:%M} UTC",
        "phantom": made.phantom,
        "best_round": run.chosen.best_round,
        "confidence": f"{config.evaluation.confidence:.0%}",
        "resamples": f"{config.evaluation.bootstrap:,}",
        "contents": [*contents, ("provenance", "Provenance"), ("limits", "What this is not")],
        "provenance": _provenance(runs),
        "limits": _limits(run),
        "config_text": run.config_text,
    }


def _ready_study(run: RunFolder) -> str | None:
    """Address of the ready study, relative to the page; nothing where it does not lie."""
    study = project_root() / READY_STUDY
    return quote(Path(os.path.relpath(study, run.path.resolve())).as_posix()) if study.is_file() else None


def _title(runs: list[RunFolder]) -> str:
    run = runs[0]
    number = len(run.config.data.sites)
    words = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")
    count = words[number] if number < len(words) else str(number)
    noun = ("phantom site" if run.results.provenance.phantom else "hospital") + ("" if number == 1 else "s")
    judge = "one that never trained judged it" if run.config.data.external else "no other has judged it"
    return f"{count} {noun} trained {' and '.join(item.task.replace('-', ' ') for item in runs)}; {judge}"


def _sentence(run: RunFolder) -> str:
    federation, made = run.config.federation, run.results.provenance
    start = (
        f"A 3D ResU-Net, averaged by {federation.algorithm.title} over {_rounds(len(run.rounds))} "
        f"across {len(run.config.data.sites)} sites, no image leaving a site"
    )
    dice = lesion_segmentation.headline(run, run.config.data.external).get("dice")
    if dice is None or not dice.n:
        return f"{start}. No external centre judged it: internal figures flatter."
    subject = f"{dice.n} {'phantom' if made.phantom else 'unseen'} case{'' if dice.n == 1 else 's'}"
    return (
        f"{start}, outlined lesions in {subject} of {run.judge} with a mean Dice of "
        f"{metric_text.value(dice)} ({run.config.evaluation.confidence:.0%} interval {metric_text.interval(dice)})."
    )


def _named(part: dict[str, Any], parts: list[dict[str, Any]]) -> str:
    """A classifier's sentence, under its name where there are several."""
    return f"{part['title']}: {part['sentence']}" if len(parts) > 1 else str(part["sentence"])


def _rounds(number: int) -> str:
    return f"{number} round{'' if number == 1 else 's'}"


def _remarks(runs: list[RunFolder], content: dict[str, Any]) -> list[str]:
    """What a reader must know beside the sentence: too few patients, and sites that missed a round."""
    lines = []
    external, node = content["external"], content["at_node"]
    if external and external["patients"] < _FEWEST_PATIENTS:
        lines.append(
            f"Fewer than {_FEWEST_PATIENTS} patients judged: the intervals are too narrow to be trusted, and nothing "
            "should be ranked by these figures."
        )
    if node and node["fewest"] < _FEWEST_PATIENTS:
        lines.append(f"Fewer than {_FEWEST_PATIENTS} cases judged: nothing should be ranked by these figures.")
    made = runs[0].results.provenance
    # A folder of an earlier version says nothing of its end: its journal does.
    rows = [row for run in runs for item in run.rounds for row in round_rows(item, run.config.data.sites)]
    parts = made.missing if made.outcome else missing(rows)
    return [*lines, *(f"{part}: see who took part." for part in parts)]


def _provenance(runs: list[RunFolder]) -> list[tuple[str, str]]:
    made = runs[0].results.provenance
    minutes, seconds = divmod(round(made.seconds), 60)
    several = len(runs) > 1
    models = []
    for run in runs:
        where = f"{run.task}, " if several else ""
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
        ("tasks", ", ".join(run.task for run in runs)),
        ("data", "phantoms (generated)" if made.phantom else "site folders"),
        ("code", made.git or "unknown commit"),
        *models,
        ("seeds", ", ".join(f"{name} {value}" for name, value in made.seeds.items())),
        ("duration", f"{minutes} min {seconds} s"),
        ("server's peak memory", f"{made.peak_memory_mb:,.0f} MB"),
        ("versions", ", ".join(f"{name} {value}" for name, value in made.versions.items())),
    ]


def _limits(run: RunFolder) -> list[str]:
    lines = ["It is not a medical device and no evidence for clinical use."]
    if run.results.provenance.phantom:
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
        "The reference is one outline a case: disagreement between readers is not in these figures.",
        "The round was chosen on validation cases of the training sites; figures on those cases are optimistic.",
        "Every case here holds a lesion by design unless stated: no false-alarm rate in healthy breasts follows.",
    ]
    return lines
