"""MRI cases of a site folder, located as a run locates them; studies in memory, extracted and prepared at once."""

from shared.cohort.preflight import open_cohort
from shared.modalities.mri.fingerprint import fingerprint_region
from shared.modalities.mri.mri import locate
from shared.modalities.mri.pipeline import prepare_region
from shared.modalities.mri.plan import Extraction
from shared.modalities.mri.region import extract_region


def mri_cohort(folder, *, needs_mask=True):
    return open_cohort(folder, [(locate, frozenset({"lesion"} if needs_mask else ()))])


def preprocess(study, mask, side, plan):
    return prepare_region(extract_region(study, mask, side, plan.extraction), plan)


def fingerprint_study(study, mask, side, config):
    return fingerprint_region(extract_region(study, mask, side, Extraction.of(config.preprocessing)))
