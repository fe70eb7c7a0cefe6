"""MRI cases of a site folder, located as a run locates them; a plan by hand, and what it makes of a study."""

from shared.cohort.preflight import open_cohort
from shared.modalities.mri.mri import locate
from shared.modalities.mri.pipeline import prepare_region
from shared.modalities.mri.plan import Extraction, MriPlan
from shared.modalities.mri.region import extract_region

WITHOUT_N4 = Extraction(post_phases=3, n4=False, n4_shrink=4, n4_iterations=(20, 20, 20, 20))


def mri_cohort(folder, *, needs_mask=True):
    return open_cohort(folder, [(locate, frozenset({"lesion"} if needs_mask else ()))])


def plan_by_hand(**changes):
    values = {
        "mode": "whole_breast",
        "spacing_mm": (3.5, 2.6, 2.8),
        "crop_voxels": (40, 48, 56),
        "least_voxels": (16, 16, 16),
        "low": (-100.0,) * 4,
        "high": (100.0,) * 4,
        "scale": (1.0,) * 4,
        "extraction": WITHOUT_N4,
    }
    return MriPlan(**{**values, **changes})


def preprocess(study, mask, side, plan):
    return prepare_region(extract_region(study, mask, side, plan.extraction), plan)
