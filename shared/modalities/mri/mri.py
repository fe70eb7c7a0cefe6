"""MRI as a modality: the steps of `shared.modalities.modality`, most of them in other files of this folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from shared.cohort.manifest import CaseRow
from shared.cohort.preflight import Case, Located, locate_exams
from shared.cohort.site_folder import SiteFolder
from shared.config.run_config import RunConfig
from shared.dicom.header import MR_IMAGE_STORAGE
from shared.modalities.modality import Background, Modality
from shared.modalities.mri.cache import PreparedMri, cached_case, cached_region
from shared.modalities.mri.check import check
from shared.modalities.mri.fingerprint import SiteFingerprint, fingerprint_region, make_plan
from shared.modalities.mri.nifti_phases import find_nifti_phases
from shared.modalities.mri.plan import Extraction, MriPlan
from shared.modalities.mri.region import BreastRegion
from shared.modalities.mri.study import read_case
from shared.modalities.mri.tissues import with_tissues


def locate(site: SiteFolder, rows: Sequence[CaseRow], needs: frozenset[str]) -> Located:
    """Locate the exams of the rows with modality MR; see `preflight.locate_exams`."""
    return locate_exams(
        site,
        [row for row in rows if row.modality == "MR"],
        needs,
        modality="mri",
        is_image=lambda header: header.sop_class == MR_IMAGE_STORAGE or header.modality == "MR",
        lies_at=lambda path: bool(find_nifti_phases(path)),
    )


def extract(case: Case, config: RunConfig, cache: Path) -> BreastRegion:
    """Extract the breast, corrected for the bias field; `StudyError` also where it is without the lesion."""
    region = cached_region(case, Extraction.of(config.preprocessing), cache)
    region.need_lesion()
    return region


def prepare(case: Case, plan: MriPlan, needs: frozenset[str], cache: Path) -> PreparedMri:
    """Prepare the breast on the plan's grid, with tissue masks if a task needs them and the case has them."""
    prepared = cached_case(case, plan, cache)
    return with_tissues(cache, case, prepared) if "tissues" in needs else prepared


def background(case: Case) -> Background:
    """Pre-contrast image and first uptake, for pictures."""
    study = read_case(case)
    before, after = study.phases[:2]
    return Background({"pre-contrast": before, "uptake": after - before}, study.grid.spacing)


MODALITY = Modality(
    name="mri",
    settings=lambda config: config.preprocessing,
    locate=locate,
    check=check,
    extract=extract,
    fingerprint=fingerprint_region,
    no_cases=lambda config: SiteFingerprint.empty(config.preprocessing.post_phases),
    read_fingerprint=lambda data, config: SiteFingerprint.from_dict(data, config.preprocessing.post_phases),
    plan=MriPlan,
    make_plan=make_plan,
    prepare=prepare,
    open=PreparedMri.from_dict,
    background=background,
    teaches=lambda case: not case.missed,
)
