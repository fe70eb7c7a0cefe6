"""What a run of a configuration asks of a hospital, in plain words, and what is new against an earlier one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from client.node.approved_configurations import ApprovedConfiguration
from shared.config.run_config import RunConfig
from shared.modalities import modality_named
from shared.policy import Policy
from shared.tasks import task_named


def told(config: RunConfig, site: str, policy: Policy) -> list[str]:
    """What a run asks of the site, a line each: its part, tasks, splits, what leaves the house and how often."""
    data, splits = config.data, config.splits
    sites = ", ".join(data.sites)
    part = "is the locked centre: it never trains, and all its patients are evaluated" if site == data.external else ""
    part = part or ("trains" if site in data.sites else "has no part: its name is not among the centres")
    shares = f"{_percent(splits.validation)} of the patients choose the round, {_percent(splits.test)} are for testing"
    drawn = "they are drawn here once, from this site's own key: shares of later runs change nothing"
    counts = f"counts of cases by split, class and reason left out (classes below {policy.least_patients} as 'few')"
    asked = questions(config)
    most = f"of patients {min(policy.runs_per_month * asked, policy.questions_per_run)} in 31 days are answered here"
    chosen = "the server chooses seed, first weights, preprocessing plan, and the order and number of its questions"
    return [
        f"run '{config.name}': {len(data.sites)} hospitals train ({sites}); locked centre: {data.external or 'none'}",
        f"{site} {part}",
        f"splits: {shares}; {drawn}",
        f"leaves once: {counts}; histograms of spacing, size and intensity over the training cases",
        *(line for name in config.tasks for line in _of_task(config.for_task(name))),
        f"questions in all: about {asked}; {most}, with {policy.runs_per_month} plans",
        f"not settled by the configuration: {chosen}",
        *(f"REFUSED as the policy stands: {item}" for item in policy.objections(config)),
    ]


def _of_task(view: RunConfig) -> list[str]:
    """What a task asks, `view` being the configuration as it sees it."""
    task, loop = task_named(view.task), view.training
    sums = ", ".join(metric.name for metric in task.metrics if metric.sent != "nothing")
    steps = f"{view.federation.rounds} rounds of {loop.steps_per_round} steps with {loop.batch_size} cases each"
    shares = _changes_samples(view)
    changed = "samples changed at random: " + ", ".join(f"{name} {_percent(share)}" for name, share in shares.items())
    rate = f"learning rate {loop.learning_rate:g} after {loop.warmup_steps} steps of warm-up"
    clip = f"gradients clipped to {loop.gradient_clip:g}"
    workers = modality_named(task.modality).settings(view).workers
    return [
        f"task '{view.task}': {steps}, {rate}, {clip}",
        f"  {changed if any(shares.values()) else 'samples are NOT changed at random'}; cases read at once: {workers}",
        f"  leaves each round: the weights of its network ({task.card.network}), on how many cases, and the loss",
        f"  leaves each round and at the end: sums over the evaluated patients, never a patient's own: {sums}",
    ]


def questions(config: RunConfig) -> int:
    """About how many questions a run without faults asks: two before the first round, one a round and a few a task."""
    return 2 + sum(config.for_task(name).federation.rounds + 3 for name in config.tasks)


def changes(before: ApprovedConfiguration, config: RunConfig) -> list[str]:
    """Keys that differ from an earlier configuration, a line each: `key: before -> now`."""
    old, new = dict(_flat(before.configuration)), dict(_flat(config.canonical()))
    keys = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    return [f"{key}: {old.get(key, 'absent')} -> {new.get(key, 'absent')}" for key in keys]


def _flat(table: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _changes_samples(config: RunConfig) -> dict[str, float]:
    """How often samples are changed, by the kind of change."""
    return {
        name: share
        for name, share in config.training.augmentation
        if name not in {"rotation_deg", "rotation_axes", "shear_deg", "scale"}
    }


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"
