"""What a run's strategy keeps at this site between rounds, on the site's own disk: Flower starts a process per message.

A file a round, `site-state/.../round-NNN.safetensors` below the site's cache: a round that is done again, because the
server died or asked twice, starts from what it started from, and a model of an earlier round meets its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load, save
from torch import Tensor

from shared.atomic_files import replace_file
from shared.runtime.project import cache_root


class SiteState:
    """A site's state of one task in one run."""

    def __init__(self, run: str, site: str, task: str) -> None:
        # The run's name comes from the server: hashed, it cannot name a place.
        name = hashlib.sha256(f"{run}|{site}|{task}".encode()).hexdigest()[:24]
        self.folder = cache_root() / "site-state" / name

    def after(self, round_number: int) -> dict[str, Tensor]:
        """What was kept after the last round up to this one in which the site trained; empty before the first."""
        paths = [path for number, path in self._rounds().items() if number <= round_number]
        return load(paths[-1].read_bytes()) if paths else {}

    def keep(self, round_number: int, state: Mapping[str, Tensor]) -> None:
        """Keep a round's state, and drop those of later rounds: they belong to rounds that are trained anew.

        Nothing is written where there is nothing to keep.

        Raises
        ------
        RunError
            There is no space left.

        """
        for number, path in self._rounds().items():
            if number > round_number:
                path.unlink(missing_ok=True)
        if state:
            content = save({name: value.detach().cpu().contiguous() for name, value in state.items()})
            replace_file(self.folder / f"round-{round_number:03d}.safetensors", content, "the site's cache")

    def _rounds(self) -> dict[int, Path]:
        """The files by round, in order."""
        paths = sorted(self.folder.glob("round-*.safetensors"))
        return {int(path.stem.removeprefix("round-")): path for path in paths}
