"""Mammography as a modality: the steps of `shared.modalities.modality`, most of them in other files of this folder.

A case is one breast of one exam: its CC and its MLO view, of which one may be absent.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from shared.cohort.manifest import CaseRow
from shared.cohort.preflight import Case, Exclusion, Located, locate_exams
from shared.cohort.site_folder import SiteFolder
from shared.config.run_config import RunConfig
from shared.modalities.mammography.cache import PreparedBreast, cached_breast, fingerprint_breast
from shared.modalities.mammography.check import check
from shared.modalities.mammography.plan import Extraction, MammographyFingerprint, MammographyPlan, make_plan
from shared.modalities.mammography.settings import MammographySettings
from shared.modalities.mammography.tags import is_mammogram
from shared.modalities.mammography.views import lies_at, read_views
from shared.modalities.modality import Background, Modality

NAME = "mammography"


def settings(config: RunConfig) -> MammographySettings:
    """The section `[mammography]`."""
    return config.section_of(NAME, MammographySettings)


def locate(site: SiteFolder, rows: Sequence[CaseRow], needs: frozenset[str]) -> Located:
    """Locate the exams of the rows with modality MG; see `preflight.locate_exams`.

    A breast without an outline is left out (`no_mask`) where no task reads the whole breast.
    """
    own = [row for row in rows if row.modality == "MG"]
    kept = [row for row in own if row.mask or needs != {"lesion"}]
    cases, exclusions = locate_exams(site, kept, frozenset(), modality=NAME, is_image=is_mammogram, lies_at=lies_at)
    return cases, exclusions + [Exclusion(row.row, "no_mask") for row in own if row not in kept]


def extract(case: Case, config: RunConfig, cache: Path) -> PreparedBreast:
    """Cut out what networks read; the plan comes on top when it is read."""
    return cached_breast(case, Extraction.of(settings(config)), cache, lesion="lesion" in config.needs(NAME))


def prepare(case: Case, plan: MammographyPlan, needs: frozenset[str], cache: Path) -> PreparedBreast:
    """As `extract`, by the plan's own settings."""
    return cached_breast(case, plan.extraction, cache, lesion="lesion" in needs)


def background(case: Case) -> Background:
    """Each view as one slice, for pictures; pixels of films that tell no size count as 1 mm."""
    images = read_views(case).images
    first = next(iter(images.values()))
    pixel = first.pixel_mm or 1.0
    return Background({view: image.pixels[None] for view, image in images.items()}, (1.0, pixel, pixel))


MODALITY = Modality(
    name=NAME,
    settings=settings,
    locate=locate,
    check=check,
    extract=extract,
    fingerprint=fingerprint_breast,
    no_cases=lambda _config: MammographyFingerprint.empty(),
    read_fingerprint=lambda data, _config: MammographyFingerprint.from_dict(data),
    plan=MammographyPlan,
    make_plan=make_plan,
    prepare=prepare,
    open=PreparedBreast.from_dict,
    background=background,
    section=MammographySettings,
)
