"""Exploratory subgroups: the federated arm by vendor, field, density, age and lesion size, and its gain."""

from __future__ import annotations

from typing import Any

from server.reports.study import metric_lookup
from server.reports.study.forest import Line, forest_plot
from server.reports.study.metric_lookup import axis_name, between, number, p_value, rounded, with_interval
from server.reports.study.study_reader import Study

_FACTORS = {
    "manufacturer": "Vendor",
    "field_strength_t": "Field strength, T",
    "density": "Breast density",
    "age_band": "Age, years",
    "size": "Lesion size (tertiles)",
}


def subgroups(study: Study, task: str) -> dict[str, Any] | None:
    """Two forests, of the federated figure and of its difference from local models, and the table of both."""
    table = study.tables.subgroups
    own = table[(table["task"] == task) & (table["arm"] == "federated")]
    if own.empty:
        return None
    metric = str(own["metric"].iloc[0])
    lines = [{str(key): value for key, value in line.items()} for line in own.to_dict("records")]
    units = study.tables.summary
    found = units.loc[(units["task"] == task) & (units["metric"] == metric), "unit"]
    unit = str(found.iloc[0]) if len(found) else "1"
    local = table[(table["task"] == task) & (table["arm"] == "local")].set_index(["factor", "level"])["value"]
    return {
        "metric": axis_name(metric, unit),
        "figures": [_plot(study, task, lines, unit, gained=gained) for gained in (False, True)],
        "lines": [
            {
                "factor": _FACTORS.get(line["factor"], line["factor"]),
                "level": _level(line["level"]),
                "n": f"{line['n']} ({line['patients']})",
                "value": rounded(line["value"], unit),
                "interval": between(line["ci_low"], line["ci_high"], unit),
                "local": rounded(local.get((line["factor"], line["level"])), unit),
                "difference": rounded(line["difference"], unit),
                "gap": between(line["difference_low"], line["difference_high"], unit),
                "p": p_value(line["p"]),
                "p_bh": p_value(line["p_bh"]),
                "ranked": bool(line["ranked"]),
            }
            for line in lines
        ],
    }


def _plot(study: Study, task: str, lines: list[dict[str, Any]], unit: str, *, gained: bool) -> dict[str, Any]:
    names = ("difference", "difference_low", "difference_high") if gained else ("value", "ci_low", "ci_high")
    metric, drawn, factor = lines[0]["metric"], [], ""
    for line in lines:
        if line["factor"] != factor:
            factor = line["factor"]
            drawn.append(Line(_FACTORS.get(factor, factor), kind="heading"))
        value, low, high = (number(line[name]) for name in names)
        text = with_interval(value, low, high, unit)
        drawn.append(
            Line(f"{_level(line['level'])} ({line['n']})", text, value, low, high, ranked=bool(line["ranked"]))
        )
    what = f"{metric_lookup.metric_name(metric)} in subgroups, federated" + (" minus local" if gained else "")
    side = f"\n(better: {metric_lookup.better(metric)} of 0)" if gained else ""
    svg = forest_plot(
        drawn,
        label=(f"difference in {axis_name(metric, unit)}{side}" if gained else axis_name(metric, unit)),
        name=f"{task}-subgroups{'-difference' if gained else ''}",
        description=what,
        reference=0.0 if gained else None,
    )
    seeds = len(study.config.study.seeds)
    caption = (
        f"{what}; in brackets {study.subject}, all held-out centres together, mean of {seeds} "
        f"seed{'' if seeds == 1 else 's'}, {study.confidence} intervals over patients. Open: too few, not ranked."
    )
    return {"svg": svg, "caption": caption}


def _level(level: Any) -> str:
    return str(level).replace(">=", "\N{GREATER-THAN OR EQUAL TO}").replace("<=", "\N{LESS-THAN OR EQUAL TO}")
