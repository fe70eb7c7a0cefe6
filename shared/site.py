"""A hospital's side: its folder opened read-only, cases located, split by patient, fingerprinted and prepared once."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from shared.atomic_files import replace_file
from shared.cohort.manifest import TABLE_NAME
from shared.cohort.preflight import Case, Cohort, Exclusion, open_cohort
from shared.cohort.site_folder import patient_of
from shared.cohort.splits import assign_splits, patient_classes
from shared.config.run_config import RunConfig
from shared.errors import ConfigError, RunError
from shared.messages.payload import FEW, label_key
from shared.modalities import modality_named
from shared.modalities.modality import Fingerprint, Plan, PreparedCase
from shared.policy import OPEN, Policy
from shared.preprocessing.cache import CACHE
from shared.runtime.progress import site_progress_path, write_progress
from shared.runtime.project import cache_root, project_root
from shared.tasks import task_named
from shared.types import SPLITS, Split

Prepared = dict[Split, list[PreparedCase]]
"""A site's prepared cases of one modality by split, each split in the order of the table."""


@dataclass
class Site:
    """A site folder under the site's name in the federation; `run` is the run's name, for the progress file.

    Its table is read when it is first needed.
    """

    folder: Path
    name: str
    config: RunConfig
    run: str = ""
    policy: Policy = OPEN
    excluded: set[Exclusion] = field(default_factory=set)
    contents: dict[str, str] = field(default_factory=dict)

    @cached_property
    def cohort(self) -> Cohort:
        """Cases of the run's modalities, and those left out before a pixel was read.

        Raises `SiteError` if the folder or its table cannot be used, `RunError` if no case can.
        """
        cohort = run_cohort(self.folder, self.config)
        if not cohort.cases:
            raise RunError(f"site '{self.name}' has no usable case: run `fedbreast check` on its folder")
        return cohort

    @property
    def draws(self) -> str:
        """What, with the run's seed and the round, decides which cases a step of training sees."""
        return self.name

    @cached_property
    def splits(self) -> Mapping[str, Split]:
        """Split of each patient: the table's where it names one, else by shares.

        The shares' seed is the site's name: another training seed does not change who is tested.
        """
        named = {case.row.patient_id: case.row.split for case in self.cohort.cases}
        given = {patient: split for patient, split in named.items() if split is not None}
        patients = sorted(named.keys() - given.keys())
        seed = int.from_bytes(self.name.encode()[:7])
        shares, classes = self.config.splits, patient_classes(self.cohort.cases, self.config.split_labels)
        drawn = assign_splits(patients, seed=seed, validation=shares.validation, test=shares.test, classes=classes)
        return drawn | given

    def fingerprints(self) -> dict[str, Fingerprint]:
        """Merge the fingerprints of the training cases, by modality."""
        return {name: self._fingerprint(name, self._cases(name, "train")) for name in self.config.modalities}

    def prepare(self, name: str, plan: Plan) -> Prepared:
        """Prepare every case of a modality by its plan, and note where they lie for the rounds to come."""
        return self._make(name, plan)

    def prepared(self, name: str, plan: Plan) -> Prepared:
        """The cases as `prepare` left them, also in another process: no image is read and nothing is hashed again."""
        try:
            # Absent, damaged, or the cache was cleared since.
            noted = json.loads(self._index(name, plan).read_text(encoding="utf-8"))
            self.contents |= noted["contents"]
            return {split: [modality_named(name).open(entry) for entry in noted[split]] for split in SPLITS}
        except (OSError, ValueError, KeyError, TypeError):
            return self._make(name, plan)

    def _make(self, name: str, plan: Plan) -> Prepared:
        modality = modality_named(name)
        ordered = [(split, case) for split in SPLITS for case in self._cases(name, split)]
        cases, excluded = modality.prepare_cases(
            [case for _, case in ordered],
            plan,
            self.config.needs(name),
            cache_root(),
            workers=modality.settings(self.config).workers,
            on_progress=self._report("prepare"),
        )
        splits = {case.key: split for split, case in ordered}
        missed = set[str]()
        if self.name != self.config.data.external:
            missed = {case.key for case in cases if splits[case.key] == "train" and not modality.teaches(case)}
        crops = {Exclusion(case.row.row, "no_breast_found") for _, case in ordered if case.key in missed}
        self.excluded |= {*excluded, *crops}
        prepared: Prepared = {
            split: [case for case in cases if splits[case.key] == split and case.key not in missed] for split in SPLITS
        }
        own = self._digests([case for _, case in ordered])
        self.contents |= own
        noted = {split: [case.to_dict() for case in found] for split, found in prepared.items()} | {"contents": own}
        replace_file(self._index(name, plan), json.dumps(noted).encode(), CACHE)
        return prepared

    def _digests(self, _cases: Sequence[Case]) -> dict[str, str]:
        """Of the cases' files by key, where a site needs them (`client.guarded_site`)."""
        return {}

    def exclusion_counts(self) -> dict[str, int]:
        """How many rows were left out for each reason."""
        return dict(Counter(item.reason for item in {*self.excluded, *self.cohort.exclusions}))

    def over_policy(self) -> bool:
        """Whether more rows were left out than the site's own policy allows."""
        return self.cohort.share_left_out(self.excluded) > self.policy.max_excluded_share

    def labelled(self, cases: Mapping[str, Sequence[PreparedCase]]) -> dict[str, int]:
        """Count cases, given by modality, by task of the run, and by label where a task answers several."""
        tasks = [(task_named(name), self.config.for_task(name)) for name in self.config.tasks]
        return {
            label_key(task.name, label): count
            for task, view in tasks
            for label, count in task.counts([case.labels for case in cases[task.modality]], view).items()
        }

    def classes(self, cases: Sequence[PreparedCase]) -> dict[str, int]:
        """Count cases by class of each label; of fewer patients than the policy's least it is `FEW`.

        Of a label with one such class the smallest other one is `FEW` as well: the cases in all would tell the first.
        """
        counts: dict[str, int] = {}
        for label in self.config.labels:
            of_class: dict[str, list[PreparedCase]] = {}
            for case in cases:
                of_class.setdefault(label.counted_as(case.labels), []).append(case)
            few = [name for name, own in of_class.items() if len(patients_of(own)) < self.policy.least_patients]
            if len(few) == 1 and len(of_class) > 1:
                few.append(min(of_class.keys() - set(few), key=lambda name: (len(of_class[name]), name)))
            counts |= {name: FEW if name in few else len(own) for name, own in of_class.items()}
        return counts

    def _fingerprint(self, name: str, cases: Sequence[Case]) -> Fingerprint:
        modality = modality_named(name)
        merged: Fingerprint
        merged, excluded = modality.fingerprint_cases(
            cases,
            self.config,
            cache_root(),
            workers=modality.settings(self.config).workers,
            on_progress=self._report("fingerprint"),
        )
        self.excluded |= set(excluded)
        return merged

    def _cases(self, modality: str, split: Split) -> list[Case]:
        own = [case for case in self.cohort.cases if case.modality == modality]
        return [case for case in own if self.splits[case.row.patient_id] == split]

    def _index(self, modality: str, plan: Plan) -> Path:
        """Name of the list of prepared cases: it depends on all that decides which cases are where."""
        table = hashlib.sha256((self.folder / TABLE_NAME).read_bytes()).hexdigest()
        run = [f"{name} {' '.join(sorted(self.config.needs(name)))}" for name in self.config.modalities]
        shares = self.config.splits.model_dump_json()
        labels = [f"{label.name} {label.kind}" for label in self.config.labels]
        role = "external" if self.name == self.config.data.external else "training"
        parts = [str(self.folder.resolve()), self.name, role, modality, plan.hash(), shares, table, *run, *labels]
        name = "|".join(parts).encode(errors="surrogateescape")  # a folder's name may be no UTF-8
        return cache_root() / "sites" / f"{hashlib.sha256(name).hexdigest()[:32]}.json"

    def _report(self, phase: str) -> Callable[[int, int], None]:
        path = site_progress_path(cache_root(), self.run, self.name)
        return lambda done, total: write_progress(path, phase, done, total, self.name)


def patients_of(cases: Sequence[PreparedCase]) -> set[str]:
    """Pseudonyms of the cases' patients."""
    return {patient_of(case.key) for case in cases}


def open_site(folder: Path, name: str, config: RunConfig, run: str = "") -> Site:
    """A site by its folder."""
    return Site(folder, name, config, run)


def run_cohort(folder: Path, config: RunConfig) -> Cohort:
    """A site folder's cases of every modality of a run, with the masks that its tasks need; raises as `open_cohort`."""
    wanted = [(modality_named(name).locate, config.needs(name)) for name in config.modalities]
    return open_cohort(folder, wanted, config.labels)


def prepare_cohort(
    cohort: Cohort,
    config: RunConfig,
    plans: Mapping[str, Plan],
    *,
    workers: int = 1,
    on_progress: Callable[[int, int], None],
) -> tuple[dict[str, list[PreparedCase]], list[Exclusion]]:
    """Prepare the cases of a centre that does not train, by the run's `plans` for its modalities.

    Returned are the prepared cases by modality, and an exclusion for each that could not be prepared. `on_progress` is
    told (cases done, cases in all) after each. `workers` are processes: with more than one the calling script needs a
    `__main__` guard.
    """
    prepared: dict[str, list[PreparedCase]] = {}
    excluded: list[Exclusion] = []
    steps = itertools.count(1)
    for name, plan in plans.items():
        prepared[name], left_out = modality_named(name).prepare_cases(
            [case for case in cohort.cases if case.modality == name],
            plan,
            config.needs(name),
            cache_root(),
            workers=workers,
            on_progress=lambda *_: on_progress(next(steps), len(cohort.cases)),
        )
        excluded += left_out
    return prepared, excluded


def held_sites(node_config: Mapping[str, object], config: RunConfig) -> dict[str, Path]:
    """Name and folder of every site whose data this node holds.

    A hospital's node holds one, its own `data-dir`. A simulated node stands for the sites of its partition: site `i` of
    `data.sites` belongs to partition `i` modulo the number of nodes, so any number of nodes can play the federation.
    The server cannot name a path: `data-dir` is given to the node by the hospital, a simulation's root stands in the
    configuration. Raises `ConfigError` if the node has no data, or its site is no centre of the run.
    """
    if "data-dir" in node_config:
        folder = Path(str(node_config["data-dir"]))
        name = str(node_config.get("site", folder.name))
        if name not in config.centres:
            shown = f"site '{name}'" if "site" in node_config else "this node's site"  # a folder may have any name
            raise ConfigError(f"{shown} is not a centre of the run ({', '.join(config.centres)})")
        return {name: folder}
    if "partition-id" not in node_config:
        raise ConfigError("this node has no data: start it with --node-config 'data-dir=\"PATH OF THE SITE FOLDER\"'")
    partition, nodes = int(str(node_config["partition-id"])), int(str(node_config["num-partitions"]))
    root = project_root() / config.data.root
    return {name: root / name for name in config.data.sites[partition::nodes]}
