"""A hospital's side: its folder opened read-only, cases located, split by patient, fingerprinted and prepared once."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

from shared.atomic_files import replace_file
from shared.cohort.labels import CaseLabels
from shared.cohort.manifest import TABLE_NAME
from shared.cohort.preflight import Case, Cohort, Exclusion, open_cohort
from shared.cohort.splits import assign_splits
from shared.config.run_config import RunConfig
from shared.errors import ConfigError, RunError
from shared.messages.payload import FEW, label_key
from shared.modalities.mri.cache import CachedCase, CaseCache
from shared.modalities.mri.fingerprint import SiteFingerprint
from shared.modalities.mri.pipeline import Placement
from shared.modalities.mri.plan import Plan
from shared.preprocessing.prepare import fingerprint_cases, prepare_cases
from shared.preprocessing.store import CACHE
from shared.runtime.progress import site_progress_path, write_progress
from shared.runtime.project import cache_root, project_root
from shared.tasks import task_named
from shared.types import SPLITS, Split

Prepared = dict[Split, list[CachedCase]]
"""A site's prepared cases by split, each split in the order of the table."""


@dataclass
class Site:
    """A site folder; its table is read when it is first needed.

    Attributes
    ----------
    folder, name
        Where it lies, and the site's name in the federation.
    config
        The run's configuration.
    run
        Name of the run, for the progress file.

    """

    folder: Path
    name: str
    config: RunConfig
    run: str = ""
    excluded: set[Exclusion] = field(default_factory=set)

    @cached_property
    def cohort(self) -> Cohort:
        """Cases, and those left out before a pixel was read.

        Raises
        ------
        SiteError
            The folder or its table cannot be used.
        RunError
            No case is usable.

        """
        found = open_cohort(self.folder, needs_mask="lesion" in self.config.needs)
        if not found.cases:
            raise RunError(f"site '{self.name}' has no usable case: run `fedbreast check` on its folder")
        return found

    @cached_property
    def splits(self) -> Mapping[str, Split]:
        """Split of each patient: the table's where it names one, else by shares.

        The shares' seed is the site's name: another training seed does not change who is tested.
        """
        named = {case.row.patient_id: case.row.split for case in self.cohort.cases}
        given = {patient: split for patient, split in named.items() if split is not None}
        patients = sorted(named.keys() - given.keys())
        seed = int.from_bytes(self.name.encode()[:7])
        shares = self.config.splits
        drawn = assign_splits(patients, seed=seed, validation=shares.validation, test=shares.test)
        return drawn | given

    def fingerprint(self) -> SiteFingerprint:
        """Merge the fingerprints of the training cases."""
        found, excluded = fingerprint_cases(
            self._cases("train"),
            self.config,
            CaseCache(cache_root()),
            workers=self.config.preprocessing.workers,
            on_progress=self._report("fingerprint"),
        )
        self.excluded |= set(excluded)
        return found

    def prepare(self, plan: Plan) -> Prepared:
        """Prepare every case by the plan, and note where they lie for the rounds to come."""
        ordered = [(split, case) for split in SPLITS for case in self._cases(split)]
        cases, excluded = prepare_cases(
            [case for _, case in ordered],
            plan,
            CaseCache(cache_root()),
            workers=self.config.preprocessing.workers,
            on_progress=self._report("prepare"),
            tissues="tissues" in self.config.needs,
        )
        self.excluded |= set(excluded)
        splits = {case.key: split for split, case in ordered}
        prepared: Prepared = {split: [case for case in cases if splits[case.key] == split] for split in SPLITS}
        _write_index(self._index(plan), prepared)
        return prepared

    def prepared(self, plan: Plan) -> Prepared:
        """The cases as `prepare` left them, also in another process: no image is read and nothing is hashed again."""
        return _read_index(self._index(plan)) or self.prepare(plan)

    def exclusion_counts(self) -> dict[str, int]:
        """How many rows were left out for each reason."""
        return dict(Counter(item.reason for item in {*self.excluded, *self.cohort.exclusions}))

    def over_policy(self) -> bool:
        """Whether more rows were left out than the site's own policy allows."""
        return self.cohort.over_policy(self.excluded)

    def labelled(self, cases: Sequence[CachedCase]) -> dict[str, int]:
        """Count cases by task of the run, and by label where a task answers several."""
        labels = [case.labels for case in cases]
        return {
            label_key(name, label): count
            for name in self.config.tasks
            for label, count in task_named(name).counts(labels, self.config.for_task(name)).items()
        }

    def classes(self, cases: Sequence[CachedCase]) -> dict[str, int]:
        """Count cases by class of each label; below the policy's least it is `FEW`: it could point at a person."""
        labels = dict.fromkeys(label for name in self.config.tasks for label in task_named(name).labels)
        found = Counter(label.counted_as(case.labels) for case in cases for label in labels)
        least = self.cohort.folder.policy.least_count
        return {name: count if count >= least else FEW for name, count in found.items()}

    def _cases(self, split: Split) -> list[Case]:
        return [case for case in self.cohort.cases if self.splits[case.row.patient_id] == split]

    def _index(self, plan: Plan) -> Path:
        """Name of the list of prepared cases: it depends on all that decides which cases are where."""
        table = hashlib.sha256((self.folder / TABLE_NAME).read_bytes()).hexdigest()
        reads = " ".join(sorted(self.config.needs))
        parts = [str(self.folder.resolve()), self.name, plan.hash(), self.config.splits.model_dump_json(), table, reads]
        return cache_root() / "sites" / f"{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:32]}.json"

    def _report(self, phase: str) -> Callable[[int, int], None]:
        path = site_progress_path(cache_root(), self.run, self.name)
        return lambda done, total: write_progress(path, phase, done, total, self.name)


def open_site(folder: Path, name: str, config: RunConfig, run: str = "") -> Site:
    """A site by its folder."""
    return Site(folder, name, config, run)


def held_sites(node_config: Mapping[str, object], config: RunConfig) -> dict[str, Path]:
    """Name and folder of every site whose data this node holds.

    A hospital's node holds one, its own `data-dir`. A simulated node stands for the sites of its partition: site `i` of
    `data.sites` belongs to partition `i` modulo the number of nodes, so any number of nodes can play the federation.
    The server cannot name a path: `data-dir` is given to the node by the hospital, a simulation's root stands in the
    configuration.

    Raises
    ------
    ConfigError
        The node has no data, or its site is no centre of the run.

    """
    if "data-dir" in node_config:
        folder = Path(str(node_config["data-dir"]))
        name = str(node_config.get("site", folder.name))
        if name not in config.centres:
            raise ConfigError(f"site '{name}' is not a centre of the run ({', '.join(config.centres)})")
        return {name: folder}
    if "partition-id" not in node_config:
        raise ConfigError("this node has no data: start it with --node-config 'data-dir=\"PATH OF THE SITE FOLDER\"'")
    partition, nodes = int(str(node_config["partition-id"])), int(str(node_config["num-partitions"]))
    root = project_root() / config.data.root
    return {name: root / name for name in config.data.sites[partition::nodes]}


def _write_index(path: Path, prepared: Prepared) -> None:
    entries = {
        split: [
            {
                "key": case.key,
                "side": case.side,
                "folder": str(case.folder),
                "place": case.meta.to_dict(),
                "seconds": case.seconds,
                "region_folder": str(case.region_folder),
                "labels": asdict(case.labels),
                "tissue_folder": str(case.tissue_folder) if case.tissue_folder else None,
            }
            for case in cases
        ]
        for split, cases in prepared.items()
    }
    replace_file(path, json.dumps(entries).encode(), CACHE)


def _read_index(path: Path) -> Prepared | None:
    """The prepared cases an index lists; None when it is absent, damaged, or the cache was cleared since."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        prepared: Prepared = {
            split: [
                CachedCase(
                    key=entry["key"],
                    side=entry["side"],
                    folder=Path(entry["folder"]),
                    meta=Placement.from_dict(entry["place"]),
                    seconds=entry["seconds"],
                    region_folder=Path(entry["region_folder"]),
                    labels=CaseLabels(**entry["labels"]),
                    tissue_folder=Path(entry["tissue_folder"]) if entry["tissue_folder"] else None,
                )
                for entry in entries[split]
            ]
            for split in SPLITS
        }
    except (OSError, ValueError, KeyError, TypeError):
        return None
    folders = [path for cases in prepared.values() for case in cases for path in (case.folder, case.tissue_folder)]
    there = all(path.is_dir() for path in folders if path is not None)
    return prepared if there else None
