"""Writes the hashed locks of this folder anew from pyproject.toml and constraints.txt; needs the network and `uv`.

`python locks/renew.py --torch-cpu PLACE` takes the CPU build of torch from PLACE, a folder of wheels or a package
index; without it, torch-cpu.txt stays as it is. `uv` reads what an index says of its files and downloads no package.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
EXTRAS = ("radiomics",)
TORCH = "torch==" + re.search(r"^torch==(\S+)", (HERE.parent / "constraints.txt").read_text(), re.MULTILINE)[1]  # type: ignore[index]
HEAD = "# Written by locks/renew.py. Install with `pip install --require-hashes --no-deps`; see docs/releasing.md.\n"


def resolved(wanted: list[str], *options: str, overrides: tuple[str, ...] = ()) -> dict[str, str]:
    """Entries of a lock by package: version, marker, and a line for each file's hash."""
    with tempfile.TemporaryDirectory() as scratch:
        for name, lines in (("in", wanted), ("over", overrides)):
            (Path(scratch) / name).write_text("\n".join(lines) + "\n")
        # The project's own settings tell uv to install nothing, hence `--no-config`. torch is constrained by the wish.
        command = ["uv", "pip", "compile", "--no-config", "--universal", "--generate-hashes", "--no-annotate"]
        command += ["--no-header", "--python-version", "3.11", "--override", "over", "--constraint", "constraints"]
        constraints = (HERE.parent / "constraints.txt").read_text()
        (Path(scratch) / "constraints").write_text(re.sub(r"^torch==.*\n", "", constraints, flags=re.MULTILINE))
        done = subprocess.run([*command, *options, "in"], cwd=scratch, check=True, stdout=subprocess.PIPE, text=True)
    return {re.split(r"[=; ]", entry)[0]: entry for entry in re.split(r"\n(?=\S)", done.stdout.strip())}


def write(name: str, entries: dict[str, str]) -> None:
    """Write one lock, in the order of its packages."""
    (HERE / name).write_text(HEAD + "".join(f"{entries[package]}\n" for package in sorted(entries)))


def main() -> None:
    """Renew them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-cpu", metavar="PLACE", help="folder of wheels or package index")
    place = parser.parse_args().torch_cpu
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + [item for name in EXTRAS for item in project["optional-dependencies"][name]]
    common = resolved(wanted, overrides=("torch; python_version < '3'",))
    write("common.txt", common)
    cuda = resolved([TORCH])
    write("torch-cuda.txt", {name: entry for name, entry in cuda.items() if name not in common})
    if place:
        where = ("--find-links" if Path(place).is_dir() else "--index", place)
        cpu = resolved([f"{TORCH}+cpu"], *where)
        write("torch-cpu.txt", {name: entry for name, entry in cpu.items() if name not in common})


if __name__ == "__main__":
    main()
