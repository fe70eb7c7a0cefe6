"""The best AUCs that any model could reach on a phantom centre, by what a modality's images show."""

from __future__ import annotations

from shared.phantom.benign import malignancy_oracle
from shared.phantom.biology import oracle_auc
from shared.phantom.centres import DENSITIES, find_centre, population_at
from shared.phantom.mammogram_lesion import calcification_signs


def oracle_areas(site: str, modality: str, *, shift: float, separation: float, benign: bool) -> dict[str, float]:
    """AUCs by label at the centre of this site's name, of a reader who knows the phantom's own model.

    `shift` and `separation` are the phantom's settings, `benign` whether it has patients with benign lesions. For
    mammograms they are a bound that cannot be reached: the reader sees all traits, of which some show in MRI alone, and
    the calcifications. A breast's share of gland is that of its density, which a reader who measures it tells without
    error. Malignancy is told of mammograms where no lesion is benign: one of the breasts has a lesion, the other none.
    """
    model = population_at(find_centre(site), shift), separation
    if modality == "mammography":
        certain = [f"density_{letter}" for letter in DENSITIES] + ([] if benign else ["malignant"])
        return oracle_auc(*model, signs=calcification_signs()) | dict.fromkeys(certain, 1.0)
    return oracle_auc(*model) | ({"malignant": malignancy_oracle(*model)} if benign else {})
