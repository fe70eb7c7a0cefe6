"""Table of modalities. To add one, write its folder and add it here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from shared.errors import ConfigError

if TYPE_CHECKING:
    from shared.modalities.modality import Modality

MODALITIES = {
    "mri": "shared.modalities.mri.mri",
    "mammography": "shared.modalities.mammography.mammography",
}
"""Module of each modality by its name; it holds the modality as `MODALITY`."""


def modality_named(name: str) -> Modality:
    """Return a modality by its name.

    Raises
    ------
    ConfigError
        There is no such modality.

    """
    if name not in MODALITIES:
        # Without the name itself, which may come from outside.
        raise ConfigError(f"an unknown modality is named; there are {', '.join(MODALITIES)}")
    # Imported only when needed: the readers of a modality take a while to import.
    modality: Modality = import_module(MODALITIES[name]).MODALITY
    return modality
