"""MRI cases of a site folder, located as a run locates them."""

from shared.cohort.preflight import open_cohort
from shared.modalities.mri.mri import locate


def mri_cohort(folder, *, needs_mask=True):
    return open_cohort(folder, [(locate, frozenset({"lesion"} if needs_mask else ()))])
