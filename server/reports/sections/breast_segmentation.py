"""The page's section on breast and density: outlines of both structures, and how well densities agree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from server.evaluation.external_tissues import FIELD_OF_VIEW_MM
from server.reports import metric_text
from server.reports.figures import style
from server.reports.figures.agreement import DENSITY, bland_altman_plot
from server.reports.sections.lesion_segmentation import HEADLINE_ARM, headline
from server.run_folder.finished_run import RunFolder
from server.run_folder.pictures import PLANES, TISSUES, read_pictures
from server.run_folder.predictions import select_cases
from server.run_folder.results import ResultRow
from shared.errors import RunError
from shared.types import STRUCTURES

_BY_STRUCTURE = ("dice", "nsd", "hd95")
_DENSITY = (
    *("mae_density", "mae_density_of_mean", "bias_density", "limit_low_density", "limit_high_density"),
    "icc_a1_density",
)
_INTERNAL = ("dice_breast", "dice_fibroglandular", "mae_density", "bias_density")
_ROLES = {
    "test": "Test cases of the training sites, never used to train or to choose.",
    "validation": "Validation cases, which chose the round: optimistic.",
}


def tissue_section(run: RunFolder) -> dict[str, Any]:
    """What the template shows of the chosen model, and the sentence that the page begins with.

    Raises
    ------
    RunError
        The external centre has cases, and the results no figures of them.

    """
    centre = run.config.data.external
    rows = headline(run, centre)
    judged = run.predictions is not None and not run.predictions.empty
    if judged and "dice_breast" not in rows:
        raise RunError(f"{run.path.name}/results.json has no figures of breast-segmentation's model at '{centre}'")
    part: dict[str, Any] = {
        "centre": centre,
        "phantom": run.results.provenance.phantom,
        "best_round": run.chosen.best_round,
        "sentence": _sentence(run, rows),
        "judged": judged,
        "at_node": run.at_node and "dice_breast" in rows and rows["dice_breast"].n > 0,
        "internal": _internal(run),
    }
    return part | _external(run, rows) if judged else part


def _external(run: RunFolder, rows: dict[str, ResultRow]) -> dict[str, Any]:
    assert run.predictions is not None  # noqa: S101 - the caller saw cases
    centre, best = str(run.config.data.external), run.chosen.best
    cases = select_cases(run.predictions, arm=HEADLINE_ARM, centre=centre, model_hash=best)
    undefined = int(cases["density_percent"].isna().sum())
    agreement = "Bland-Altman plot of predicted against reference density"
    return {
        "n": len(cases),
        "patients": cases["patient"].nunique(),
        "structures": [
            {"name": structure, "rows": [rows[f"{name}_{structure}"] for name in _BY_STRUCTURE]}
            for structure in STRUCTURES
        ],
        "columns": [metric_text.label(rows[f"{name}_breast"]).partition(",")[0] for name in _BY_STRUCTURE],
        "density": [rows[name] for name in _DENSITY],
        "undefined": undefined,
        "svg": bland_altman_plot(
            cases, rows, log=False, description=agreement, quantity=DENSITY, name="density-agreement"
        ),
        "caption": f"{agreement}, % of the breast's volume: bias and 95% limits, bands are their bootstrap intervals.",
        "pictures": _pictures(run, cases.set_index("case")["dice_fibroglandular"].to_dict()),
        "field_mm": f"{FIELD_OF_VIEW_MM:g}",
    }


def _pictures(run: RunFolder, dice: Mapping[Any, float]) -> list[dict[str, Any]]:
    return [
        {
            "title": f"{picture.label.capitalize()}: fibroglandular Dice "
            f"{metric_text.fixed(dice.get(picture.case), 3)}",
            "case": picture.case,
            "views": [
                {
                    "svg": style.view_panel(
                        picture.views[name],
                        name,
                        f"tissues-{picture.label}-{name}",
                        f"{picture.label} case, {name}: reference and predicted outlines of breast and fibroglandular "
                        "tissue",
                        field_mm=FIELD_OF_VIEW_MM,
                    ),
                    "caption": name,
                }
                for name in PLANES
            ],
        }
        for picture in read_pictures(run.path, TISSUES)
    ]


def _internal(run: RunFolder) -> list[dict[str, Any]]:
    """Tables of the training sites; nothing of a role that no site answered."""
    tables = []
    for role, caption in _ROLES.items():
        sites: dict[str, dict[str, ResultRow]] = {}
        for row in run.results.rows:
            if (row.arm, row.role, row.model_hash) == (HEADLINE_ARM, role, run.chosen.best):
                sites.setdefault(row.centre, {})[row.metric] = row
        shown = {name: [rows[metric] for metric in _INTERNAL] for name, rows in sites.items()}
        lines = [{"site": name, "rows": rows, "n": rows[0].n, "total": name == "all"} for name, rows in shown.items()]
        for first in [*shown.values()][:1]:
            columns = [(metric_text.label(row), metric_text.unit(row)) for row in first]
            tables.append({"caption": caption, "columns": columns, "lines": lines})
    return tables


def _sentence(run: RunFolder, rows: dict[str, ResultRow]) -> str:
    confidence = f"{run.config.evaluation.confidence:.0%} interval"
    if "dice_breast" not in rows or not rows["dice_breast"].n:
        return "Breast and fibroglandular tissue were outlined; no external case judged it: internal figures flatter."
    breast, gland, error = (rows[name] for name in ("dice_breast", "dice_fibroglandular", "mae_density"))
    subject = (
        f"{breast.n} {'phantom' if run.results.provenance.phantom else 'unseen'} case{'' if breast.n == 1 else 's'}"
    )
    return (
        f"In {subject} of {run.judge}, the breast was outlined with a mean Dice of "
        f"{metric_text.value(breast)} ({confidence} {metric_text.interval(breast)}) and its fibroglandular tissue with "
        f"{metric_text.value(gland)} ({metric_text.interval(gland)}); breast density was off by "
        f"{metric_text.value(error)} percentage points on average ({metric_text.interval(error)})."
    )
