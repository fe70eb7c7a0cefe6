"""Mammograms of a patient on disk: a folder of images a breast, one of outlines, and the breasts' rows of the table."""

from __future__ import annotations

from pathlib import Path

from shared.phantom.exam import Body
from shared.phantom.mammogram_image import UNITS, look_at
from shared.phantom.mammogram_writer import write_breast
from shared.phantom.mammograms import make_mammograms
from shared.phantom.settings import PhantomSettings

_OF_THE_LESION = ("er", "pr", "her2", "her2_fish", "ki67_percent", "subtype", "lesion_diameter_mm")
_OF_THE_MRI = ("breast_mask", "fibroglandular_mask", "field_strength_t")


def write_mammograms(
    root: Path, body: Body, settings: PhantomSettings, *, identity: str, name: str, row: dict[str, str]
) -> list[dict[str, str]]:
    """Write four views below `root`, to `dicom/NAME-mg-SIDE` and `masks/NAME-mg-SIDE`; return both breasts' rows.

    `row` is that of the patient's MRI. The breast without the index lesion has no outline, no receptors, and is benign.
    """
    pictures = make_mammograms(body, settings)
    rows = []
    for breast in body.breasts:
        folder = f"{name}-mg-{breast.side}"
        views = [picture for picture in pictures if picture.side == breast.side]
        look = look_at(body.place.key, settings.shift)
        write_breast(root / "dicom" / folder, root / "masks" / folder, body, views, look, identity)
        own: dict[str, str] = {**row, **dict.fromkeys(_OF_THE_MRI, "")}
        own |= {"side": breast.side, "modality": "MG", "path": f"dicom/{folder}", "mask": f"masks/{folder}"}
        own |= {"manufacturer": UNITS[body.place.key].manufacturer}
        if breast.side != body.side:
            own |= {**dict.fromkeys(_OF_THE_LESION, ""), "mask": "", "malignant": "0"}
        rows.append(own)
    return rows
