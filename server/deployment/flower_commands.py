"""Runs several of Flower's commands in one process: each alone takes seconds to load.

`python -m server.deployment.flower_commands < COMMANDS`, a list of argument lists as JSON.
"""

from __future__ import annotations

import json
import sys

from shared.runtime.flower_internals import flower_internal

END = "\x1e"
"""Written after what each command says, to its output and to its errors."""


def main() -> None:
    """Run each command; one that fails says so in its answer, and the next one runs."""
    app = flower_internal("flwr.cli.app:app")
    for arguments in json.load(sys.stdin):
        try:
            app(arguments, standalone_mode=False)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, it is this command's alone
            print(error, file=sys.stderr)  # noqa: T201 - our answer, as below
        for stream in (sys.stdout, sys.stderr):
            print(END, file=stream, flush=True)


if __name__ == "__main__":
    main()
