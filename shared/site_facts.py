"""What a site tells of itself on joining, before any image is read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path

from shared.cohort.labels import CaseLabels
from shared.cohort.manifest import read_manifest_with_flags
from shared.cohort.preflight import TISSUE_MASKS
from shared.cohort.refused_cells import keeping_the_cell
from shared.cohort.site_folder import open_site_folder, pseudonym
from shared.config.run_config import RunConfig
from shared.messages.instruction_reply import SiteFacts
from shared.messages.payload import FEW, label_key
from shared.policy import OPEN, Policy
from shared.runtime.machine import free_disk_mb, free_memory_mb
from shared.runtime.project import cache_root
from shared.tasks import task_named

Admitted = Callable[[Mapping[str, CaseLabels]], Collection[str]]
"""From the cases of a table, by pseudonym, to those that may be told of."""


def site_facts(
    folder: Path, config: RunConfig, policy: Policy = OPEN, admitted: Admitted = lambda everyone: everyone
) -> SiteFacts:
    """Count a site's cases, of those `admitted`, as its `policy` tells them: its table is read, no image.

    `SiteError` if the folder or its table cannot be used.
    """
    site = open_site_folder(folder)
    with keeping_the_cell(site.path):
        rows, _ = read_manifest_with_flags(site.path, site.images, config.labels)
    tissues = [all(getattr(row, kind) for kind in TISSUE_MASKS) for row in rows]
    keys = [pseudonym(site, row) for row in rows]
    known = [replace(row.labels, tissues=has, outlined=bool(row.mask)) for row, has in zip(rows, tissues, strict=True)]
    told_of = admitted(dict(zip(keys, known, strict=True)))
    known = [labels for key, labels in zip(keys, known, strict=True) if key in told_of]

    hidden = bool(rows) and not told_of

    def told(count: int) -> int:
        return FEW if hidden or 0 < count < policy.least_patients else count

    counts = {name: task_named(name).counts(known, config.for_task(name)) for name in config.tasks}
    return SiteFacts(
        phantom=site.phantom,
        cases=told(len(known)),
        labelled={label_key(name, label): told(count) for name, own in counts.items() for label, count in own.items()},
        disk_mb=free_disk_mb(cache_root()),
        memory_mb=free_memory_mb(),
    )
