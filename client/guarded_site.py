"""A hospital's site: about whom a question is answered is settled by policy and ledger, whatever the run says."""

from __future__ import annotations

import dataclasses
import glob
import hashlib
import hmac
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from client.ledger import Ledger
from shared.cohort.labels import CaseLabels
from shared.cohort.preflight import TISSUE_MASKS, Case, MaskKind
from shared.cohort.site_folder import patient_of
from shared.cohort.splits import patient_classes
from shared.dicom.index import list_files
from shared.errors import RunError
from shared.modalities.modality import Fingerprint, Plan, PreparedCase
from shared.preprocessing.cache import file_digest
from shared.runtime.project import cache_root
from shared.site import Prepared, Site
from shared.types import SPLITS, Split

_COLUMNS = {"er", "pr", "her2", "ki67_percent", "subtype", "malignant", "density"}


@dataclass
class GuardedSite(Site):
    """A site whose patients are people: its splits stand in the ledger, and every set that is answered about.

    A set has `least_patients` or more, to train on `least_training_patients`; two sets of one split that are answered
    about differ by nobody or by `least_patients` (`Ledger.admit`). Cases that wait for that are left out with the
    reason `too_few_changed`. A label that fewer patients of a split have is as if nobody of it had.
    """

    ledger: Ledger = dataclasses.field(kw_only=True)
    _waiting: set[str] = dataclasses.field(default_factory=set)

    @cached_property
    def splits(self) -> Mapping[str, Split]:
        """Split of each patient: the table's where it names one, else as the ledger has it."""
        pseudonyms = {case.row.patient_id: patient_of(case.key) for case in self.cohort.cases}
        known = patient_classes(self.cohort.cases, self.config.split_labels)
        classes = {pseudonyms[patient]: own for patient, own in known.items()}
        drawn = self.ledger.splits(set(pseudonyms.values()), self.config.splits, classes)
        given = {case.row.patient_id: case.row.split for case in self.cohort.cases}
        return {patient: given[patient] or drawn[pseudonym] for patient, pseudonym in pseudonyms.items()}

    def fingerprints(self) -> dict[str, Fingerprint]:
        """As `Site.fingerprints`, of the patients of whom a fingerprint may tell.

        `RunError` where they are fewer than the policy's `least_training_patients`.
        """
        merged = {}
        for name in self.config.modalities:
            cases = self._cases(name, "train")
            merged[name] = self._fingerprint(name, cases)
            failed = {item.row for item in self.excluded}
            readable = [case for case in cases if case.row.row not in failed]
            self.contents |= self._digests(readable)
            told = self._admitted(
                f"{name}/fingerprint", {case.key: case.row.labels for case in readable}, training=True
            )
            if len(told) < len(readable):  # the cache holds what was read: this takes no second reading
                merged[name] = self._fingerprint(name, [case for case in readable if case.key in told])
        return merged

    def prepare(self, name: str, plan: Plan) -> Prepared:
        """As `Site.prepare`, with the cases that may be answered about."""
        self._take(name, plan)
        return self._guarded(name, super().prepare(name, plan))

    def prepared(self, name: str, plan: Plan) -> Prepared:
        """As `Site.prepared`, with the cases that may be answered about."""
        self._take(name, plan)
        return self._guarded(name, super().prepared(name, plan))

    def exclusion_counts(self) -> dict[str, int]:
        """As `Site.exclusion_counts`, with the cases that wait: up to a multiple of the policy's least patients."""
        least = self.policy.least_patients
        return dict(
            Counter(super().exclusion_counts()) + Counter(too_few_changed=-(-len(self._waiting) // least) * least)
        )

    def labelled(self, cases: Mapping[str, Sequence[PreparedCase]]) -> dict[str, int]:
        """As `Site.labelled`; fewer than the policy's least are none."""
        least, counts = self.policy.least_patients, super().labelled(cases)
        return {name: count if count >= least else 0 for name, count in counts.items()}

    @property
    def draws(self) -> str:
        """As `Site.draws`, from the site's own key: nobody outside knows which cases a step sees."""
        key = self.cohort.folder.pseudonym_key
        return hmac.new(key, f"draws|{self.name}".encode(), hashlib.sha256).hexdigest()

    def _guarded(self, name: str, prepared: Prepared) -> Prepared:
        external = self.name == self.config.data.external
        groups: dict[str, tuple[Split, ...]] = {"external": SPLITS} if external else {item: (item,) for item in SPLITS}
        guarded: Prepared = {}
        for group, splits in groups.items():
            labels = {case.key: case.labels for split in splits for case in prepared[split]}
            told = self._admitted(f"{name}/{group}", labels, training=group == "train")
            known = _known_of_enough({key: labels[key] for key in sorted(told)}, self.policy.least_patients)
            guarded |= {
                split: [_with_labels(case, known[case.key]) for case in prepared[split] if case.key in told]
                for split in splits
            }
        return guarded

    def _admitted(self, name: str, labels: Mapping[str, CaseLabels], *, training: bool) -> set[str]:
        """Keys of the cases of the set that may be answered about; the others wait."""
        needed = self.policy.least_training_patients if training else 0
        admitted = admitted_cases(self.ledger, name, labels, self.contents, needed)
        self._waiting |= labels.keys() - admitted
        if training:
            self.policy.need_training({patient_of(key) for key in admitted}, len(self._waiting))
        return admitted

    def _digests(self, cases: Sequence[Case]) -> dict[str, str]:
        return {case.key: _digest(case) for case in cases}

    def _take(self, name: str, plan: Plan) -> None:
        """Take the plan, or refuse it: each fills the cache anew."""
        self.ledger.take_plan(self.config.hash(), name, plan.hash(), self._check_cache)

    def _check_cache(self) -> None:
        files = (Path(folder, name) for folder, _, names in os.walk(cache_root()) for name in names)
        if sum(map(_size, files)) > self.policy.max_cache_gb * 1e9:
            raise RunError(
                f"the site's cache has more than the {self.policy.max_cache_gb:g} GB of its policy: clear it there, "
                "and what is needed is prepared again"
            )


def admitted_cases(
    ledger: Ledger, name: str, labels: Mapping[str, CaseLabels], contents: Mapping[str, str], needed: int = 0
) -> set[str]:
    """Those of a set's cases that may be answered about (`Ledger.admit`), by what the table and their files say."""
    told: dict[str, str] = {}
    for key, own in sorted(labels.items()):
        # The table's own columns alone: what else a run asks for must not make other patients of the same ones.
        columns = dataclasses.replace(own, tissues=False, outlined=False, other={})
        told[patient_of(key)] = f"{told.get(patient_of(key), '')}|{key} {columns} {contents.get(key, '')}"
    patients = ledger.admit(name, told, needed)
    return {key for key in labels if patient_of(key) in patients}


def _digest(case: Case) -> str:
    """SHA-256 of all that a case may be read from: bytes of its images and masks, and what its row says of them."""
    kinds: tuple[MaskKind, ...] = ("mask", *TISSUE_MASKS)
    masks = [(case.mask_files(kind), getattr(case.row, kind).partition("#")[2]) for kind in kinds]
    path = case.path
    if path is None:
        images = list(case.files)
    else:  # a folder, or what begins so
        places = [path] if path.is_dir() else sorted(path.parent.glob(f"{glob.escape(path.name)}*"))
        images = [item for place in places for item in (list_files(place) if place.is_dir() else [place])]
    drawn = [f"{','.join(map(_file_digest, files))}#{segment}" for files, segment in masks]
    parts = [case.row.side, str(case.row.acquisition_times_s), *drawn, *sorted(map(_file_digest, images))]
    return hashlib.sha256("|".join(parts).encode()).hexdigest()


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:  # another process has just removed it
        return 0


def _file_digest(path: Path) -> str:
    try:
        return file_digest(path) if path.is_file() else ""
    except OSError:  # then the case cannot be prepared either
        return ""


def _known_of_enough(labels: Mapping[str, CaseLabels], least: int) -> dict[str, CaseLabels]:
    """The labels of cases, without those that fewer than `least` patients have."""
    patients: dict[str, set[str]] = {}
    for key, own in labels.items():
        known = {name for name in _COLUMNS if getattr(own, name) is not None}
        for name in {*known, *own.other}:
            patients.setdefault(name, set()).add(patient_of(key))
    few = {name for name, own in patients.items() if len(own) < least}
    none: dict[str, Any] = dict.fromkeys(few & _COLUMNS)
    return {
        key: dataclasses.replace(
            own,
            other={name: value for name, value in own.other.items() if name not in few},
            **none,
        )
        for key, own in labels.items()
    }


def _with_labels(case: PreparedCase, labels: CaseLabels) -> PreparedCase:
    changed: PreparedCase = dataclasses.replace(case, labels=labels)  # type: ignore[type-var]  # all are dataclasses
    return changed
