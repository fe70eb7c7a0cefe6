"""A run's configuration, rounds and external results as MLflow's parameters and metrics."""

from __future__ import annotations

from collections.abc import Iterator

from server.run_folder.arms import FEDERATED
from server.run_folder.results import Results
from server.run_folder.round_record import RoundRecord
from shared.config.run_config import RunConfig
from shared.tasks import task_named

_LONGEST = 250


def parameters(config: RunConfig) -> dict[str, str]:
    """The resolved configuration with keys such as `federation.rounds`, without paths and the section `tracking`."""
    raw = config.model_dump(mode="json", exclude_none=True, exclude={"tracking": True, "data": {"root"}})
    files = config.keys_of_files()
    return {key: "a file" if key in files else value[:_LONGEST] for key, value in _flat(raw, "")}


def round_metrics(record: RoundRecord) -> dict[str, float]:
    """Figures of a committed round as MLflow's metrics; what a site does not have is left out."""
    choice = task_named(record.task).choice
    figures = {"seconds": record.seconds, "validation": choice.of(record.validation())}
    for site, entry in record.sites.items():
        figures[f"{site}/loss"] = entry.loss
        figures[f"{site}/validation"] = choice.of(record.sums(site)) if entry.validation else None
    return {f"{record.task}/{key}": value for key, value in figures.items() if value is not None}


def external_metrics(results: Results) -> dict[str, float]:
    """Metrics of the external centre with their bounds.

    `TASK/external/METRIC` are the chosen model's, `TASK/final/external/METRIC` the last one's where it is another;
    other arms have their name before the metric's.
    """
    figures: dict[str, float | None] = {}
    for row in (item for item in results.rows if item.role == "external"):
        trained = results.provenance.tasks[row.task]
        last = row.model_hash == trained.final != trained.best
        # Not every store of MLflow accepts a colon.
        arm = "" if row.arm == FEDERATED else row.arm.replace(":", ".") + "/"
        key = f"{row.task}/{'final/' if last else ''}external/{arm}{row.metric}"
        figures |= {key: row.value, f"{key}_low": row.ci_low, f"{key}_high": row.ci_high}
    return {key: value for key, value in figures.items() if value is not None}


def _flat(value: object, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{path}.{key}" if path else key)
    else:
        yield path, ", ".join(map(str, value)) if isinstance(value, list) else str(value)
