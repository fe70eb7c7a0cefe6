"""`sites.json` in a run's folder: where each site stands now, for whoever watches the run."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from server.run_folder.results import replace_file

State = Literal["connected", "training", "absent", "done"]

FILE = "sites.json"


class SiteStates:
    """The state of every site of a run, by name; the file is replaced whenever one changes, atomically.

    At first none has connected.
    """

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        self._path = folder / FILE
        self._states: dict[str, tuple[State, str, float]] = {}
        self.change(dict.fromkeys(names, ("absent", "not connected yet")))

    def change(self, states: dict[str, tuple[State, str]]) -> None:
        """Give sites another state, each with its reason; what is as it was keeps its time."""
        now = time.time()
        new = {name: item for name, item in states.items() if self._states.get(name, ())[:2] != item}
        if not new:
            return
        self._states |= {name: (state, reason, now) for name, (state, reason) in new.items()}
        sites = {
            name: {"state": state, "since": since, "reason": reason}
            for name, (state, reason, since) in self._states.items()
        }
        replace_file(self._path, json.dumps({"sites": sites, "at": now}, indent=1).encode())

    def finish(self) -> None:
        """The run is at its end: every site that is still there is done."""
        self.change({name: ("done", "") for name, (state, _, _) in self._states.items() if state != "absent"})
