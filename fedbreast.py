"""Starts FedBreast: its packages are imported from beside this file, from their source, and from nowhere else.

Other folders on the path may hold packages called `client`, `server` or `shared` too. And beside a source file may lie
what Python would take instead of it: an extension (`.so`), or bytecode in `__pycache__` that says something else.
A hospital approves source by its hash, so source is what runs: it is compiled at each start, and no bytecode is kept.

`fedbreast ARGUMENTS` is the command line. `python -I fedbreast.py MODULE ARGUMENTS` runs one of our modules, isolated:
`-I` keeps the working folder, the user's own packages and Python's environment variables away.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from importlib.machinery import FileFinder, ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType

ROOT = Path(__file__).resolve().parent
PACKAGES = frozenset({"client", "server", "shared"})


class Source(SourceFileLoader):
    """Loads a module from its source: bytecode is neither read nor written."""

    def get_code(self, fullname: str) -> CodeType:
        """Compile the module's source."""
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


class OwnPackages:
    """Finds our packages and their modules, before Python's own finders are asked."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        """The module of ours that is called `name`; None if another's is meant."""
        del target
        if name.partition(".")[0] not in PACKAGES:
            return None
        for folder in path or [str(ROOT)]:
            spec = FileFinder(folder, (Source, [".py"])).find_spec(name)
            if spec is not None and spec.loader is not None:
                return spec
        raise ModuleNotFoundError(f"FedBreast has no module {name} below {ROOT}", name=name)


def take_own_packages() -> None:
    """From now on import our packages from here, and libraries from everywhere else first."""
    sys.meta_path.insert(0, OwnPackages)
    here = [entry for entry in sys.path if Path(entry).resolve() == ROOT]
    sys.path[:] = [entry for entry in sys.path if entry not in here] + here


def main() -> None:
    """The command line."""
    from server.commands.cli import main as command_line

    command_line()


take_own_packages()  # at import, so that it holds in the processes that Python's pools start, too

if __name__ == "__main__":
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
