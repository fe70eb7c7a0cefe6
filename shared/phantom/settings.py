"""What determines a phantom federation byte for byte."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.phantom.centres import Centre, Population, population_at


@dataclass(frozen=True, slots=True)
class PhantomSettings:
    """Settings of a phantom federation."""

    cases_per_site: int = 24  # patients with cancer at each training centre
    cases_external: int = 24  # the same at the external centre
    cases_benign: int = 0  # further patients at every centre whose index lesion is benign; they come last
    shift: float = 0.6  # how far the centres differ; see `centres`
    separation: float = 0.75  # scale of the distances between the subtypes; see `biology`
    seed: int = 0  # of every draw
    mammograms: bool = False  # CC and MLO of both breasts of every patient, beside the MRI
    densities: Mapping[str, str] = field(
        default_factory=dict, hash=False
    )  # by site: letters of its only breast densities

    def population(self, centre: Centre) -> Population:
        """Patients of a centre."""
        return population_at(centre, self.shift, self.densities.get(centre.site, ""))

    def cancers_at(self, key: str) -> int:
        """Patients with cancer at a centre; the benign ones' indices follow."""
        return self.cases_external if key == "D" else self.cases_per_site

    def is_benign(self, key: str, index: int) -> bool:
        """Whether the index lesion of patient `index` is benign."""
        return self.cases_benign > 0 and index >= self.cancers_at(key)
