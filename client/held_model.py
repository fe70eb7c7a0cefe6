"""The model that a hospital judged last, kept so that it need not be sent again to be trained.

A round's model is judged, and it is what the next round trains. Under its own hash it lies in the kit's cache, one a
site; that hash is checked when it is read, so that whatever became of the file, no other model is trained.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from shared.errors import RunError, UpdateError
from shared.files import replace_file
from shared.messages import Instruction
from shared.payload import flat_hash
from shared.preprocessing.store import CACHE
from shared.project import cache_root

_A_HASH = re.compile(r"[0-9a-f]{64}")


def hold(site: str, instruction: Instruction) -> bool:
    """Keep the weights of an instruction, in place of the site's last ones; whether they are kept now."""
    weights = instruction.weights
    if weights is None or not instruction.model or flat_hash(weights) != instruction.model:
        return False
    path = _path(site, instruction.model)
    with suppress(RunError, OSError):  # a full disk: it is sent again then
        for old in path.parent.glob(f"{site}.*"):
            old.unlink()
        replace_file(path, weights.tobytes(), CACHE)
        return True
    return False


def complete(site: str, instruction: Instruction) -> Instruction:
    """Fill in the weights that an instruction names without holding them.

    Raises
    ------
    UpdateError
        They are not here, or no longer what they were: the server asks again, and sends them.

    """
    if instruction.weights is not None or not instruction.model:
        return instruction
    path = _path(site, instruction.model)
    weights = np.fromfile(path, np.float32) if path.is_file() else None
    if weights is None or flat_hash(weights) != instruction.model:
        raise UpdateError("the model of this round is not kept here: it must be sent")
    return replace(instruction, weights=weights)


def _path(site: str, model: str) -> Path:
    if not _A_HASH.fullmatch(model):
        raise UpdateError("the server names a model by something that is no hash")
    return cache_root() / "held" / f"{site}.{model[:32]}"
