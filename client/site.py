"""A hospital's side: its folder opened read-only, cases located, split by patient, fingerprinted and prepared once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from shared.cohort.preflight import Case, Cohort, Exclusion, open_cohort
from shared.cohort.splits import assign_splits
from shared.config import RunConfig
from shared.errors import ConfigError, RunError
from shared.preprocessing.cache import CachedCase, CaseCache
from shared.preprocessing.fingerprint import SiteFingerprint
from shared.preprocessing.plan import Plan
from shared.preprocessing.prepare import fingerprint_cases, prepare_cases
from shared.project import cache_root, project_root
from shared.types import Split


@dataclass
class Site:
    """An opened site folder.

    Attributes
    ----------
    name
        The site's name in the federation.
    cohort
        Its cases and those left out before a pixel was read.
    splits
        Split of each patient; the seed is the site's name alone, so a new training seed does not change who is tested.

    """

    name: str
    cohort: Cohort
    splits: Mapping[str, Split]
    config: RunConfig
    excluded: set[Exclusion] = field(default_factory=set)
    _prepared: dict[str, dict[Split, list[CachedCase]]] = field(default_factory=dict)

    def fingerprint(self) -> SiteFingerprint:
        """Merge the fingerprints of the training cases."""
        cases = [case for case in self.cohort.cases if self._split(case) == "train"]
        found, excluded = fingerprint_cases(
            cases, self.config, CaseCache(cache_root()), workers=self.config.preprocessing.workers
        )
        self.excluded |= set(excluded)
        return found

    def prepare(self, plan: Plan) -> dict[Split, list[CachedCase]]:
        """Prepare every case by the plan; the work is kept on disk, and in memory for the next round."""
        if plan.hash() not in self._prepared:
            prepared: dict[Split, list[CachedCase]] = {}
            for split in ("train", "validation", "test"):
                cases = [case for case in self.cohort.cases if self._split(case) == split]
                prepared[split], excluded = prepare_cases(
                    cases, plan, CaseCache(cache_root()), workers=self.config.preprocessing.workers
                )
                self.excluded |= set(excluded)
            self._prepared[plan.hash()] = prepared
        return self._prepared[plan.hash()]

    def exclusion_counts(self) -> dict[str, int]:
        """How many rows were left out for each reason."""
        return dict(Counter(item.reason for item in {*self.excluded, *self.cohort.exclusions}))

    def _split(self, case: Case) -> Split:
        return self.splits[case.row.patient_id]


def open_site(folder: Path, name: str, config: RunConfig) -> Site:
    """Open a site folder.

    Raises
    ------
    SiteError
        The folder or its table cannot be used.

    """
    cohort = open_cohort(folder)
    patients = sorted({case.row.patient_id for case in cohort.cases})
    seed = int.from_bytes(name.encode()[:7])
    splits = assign_splits(patients, seed=seed, validation=config.splits.validation, test=config.splits.test)
    return Site(name, cohort, splits, config)


def locate(node_config: Mapping[str, object], config: RunConfig) -> tuple[str, Path]:
    """Name and folder of this node's site: its own `data-dir`, or in a simulation the folder of its partition.

    The server cannot name a path: `data-dir` is given to the node by the hospital, and a simulation's root stands in
    the configuration.

    Raises
    ------
    ConfigError
        The node says neither, or its partition is not in `data.sites`.

    """
    if "data-dir" in node_config:
        folder = Path(str(node_config["data-dir"]))
        name = str(node_config.get("site", folder.name))
        if name not in config.data.sites:
            raise ConfigError(
                f"site '{name}' is not in data.sites ({', '.join(config.data.sites)}): set --node-config site"
            )
        return name, folder
    if "partition-id" not in node_config:
        raise ConfigError("this node has no data: start it with --node-config 'data-dir=\"/path/to/site\"'")
    partition = int(str(node_config["partition-id"]))
    if partition >= len(config.data.sites):
        raise ConfigError(
            f"partition {partition} has no site: data.sites names {len(config.data.sites)}; "
            "set num-supernodes to that number",
        )
    name = config.data.sites[partition]
    return name, project_root() / config.data.root / name


_open: dict[tuple[str, str], Site] = {}


def remembered_site(node_config: Mapping[str, object], config: RunConfig) -> Site:
    """Open this node's site, once a process: later messages of the same run find it open.

    Raises
    ------
    SiteError, ConfigError
        See `open_site` and `locate`.

    """
    name, folder = locate(node_config, config)
    key = (str(folder), config.model_dump_json())
    if key not in _open:
        _open[key] = open_site(folder, name, config)
    site = _open[key]
    if not site.cohort.cases:
        raise RunError(f"site '{name}' has no usable case: run `fedbreast check` on its folder")
    return site
