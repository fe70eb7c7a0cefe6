"""The release recipe of the Makefile, with docker and git's signature played; the rest is real."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TAG = "python:3.11-slim-bookworm"
DIGEST = "sha256:" + "5e" * 32
MOVES = (
    "Makefile",
    "pyproject.toml",
    "constraints.txt",
    "fedbreast.py",
    "locks",
    "docker",
    "client",
    "server",
    "shared",
)


@pytest.fixture
def checkout(tmp_path):
    """A repository of its own, and a `docker` that answers as a registry would."""
    root, tools = tmp_path / "checkout", tmp_path / "tools"
    root.mkdir()
    tools.mkdir()
    for name in MOVES:
        place = ROOT / name
        if place.is_dir():
            shutil.copytree(place, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(place, root / name)
    (root / ".gitignore").write_text("dist/\nvenv/\n")
    (root / "venv" / "bin").mkdir(parents=True)
    (root / "venv" / ".installed").touch()
    python = root / "venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (tools / "docker").write_text(f'#!/bin/sh\n[ "$4" = {TAG} ] && echo {DIGEST}\n')
    (tools / "gpg").write_text(
        '#!/bin/sh\necho "[GNUPG:] SIG_CREATED D" >&2\nprintf -- "-----BEGIN PGP SIGNATURE-----\\n"\ncat >/dev/null\n'
    )
    for tool in tools.iterdir():
        tool.chmod(0o755)
    env = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}", "GIT_CONFIG_GLOBAL": os.devnull}
    env |= {f"GIT_{who}_{what}": "x@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}

    def call(*command):
        return subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)

    call("git", "init", "--quiet")
    call("git", "config", "gpg.program", str(tools / "gpg"))
    call("git", "add", "--all")
    assert call("git", "commit", "--quiet", "--message", "all").returncode == 0
    return root, call, lambda target: call("make", target, "VENV=venv")


def test_the_base_is_pinned_by_its_digest_and_renewed(checkout):
    root, _, make = checkout
    for _ in range(2):
        done = make("pin-base")
        assert done.returncode == 0, done.stderr
        assert (root / "docker" / "base-image").read_text() == f"{TAG}@{DIGEST}\n"


def test_an_unpinned_base_and_uncommitted_changes_are_not_released(checkout):
    root, call, make = checkout
    (root / "docker" / "base-image").write_text(f"{TAG}\n")
    call("git", "commit", "--all", "--message", "unpinned")
    done = make("release-check")
    assert (done.returncode != 0, "make pin-base" in done.stdout) == (True, True)
    make("pin-base")
    assert "not committed" in make("release-check").stdout
    call("git", "commit", "--all", "--message", "pinned")
    assert make("release-check").returncode == 0


def test_a_release_has_its_bills_of_materials_and_checksums_which_the_signed_tag_repeats(checkout):
    root, call, make = checkout
    make("pin-base")
    call("git", "commit", "--all", "--message", "pinned")
    done = make("release")
    assert done.returncode == 0, done.stderr
    sums = (root / "dist" / "SHA256SUMS").read_text()
    names = [line.split()[1] for line in sums.splitlines()]
    assert sorted(names) == ["fedbreast-0.1.0.tar.gz", "sbom-cpu.cdx.json", "sbom-cuda.cdx.json"]
    for line in sums.splitlines():
        digest, name = line.split()
        assert hashlib.sha256((root / "dist" / name).read_bytes()).hexdigest() == digest
    assert json.loads((root / "dist" / "sbom-cpu.cdx.json").read_text())["bomFormat"] == "CycloneDX"
    tag = call("git", "cat-file", "tag", "v0.1.0").stdout
    assert "BEGIN PGP SIGNATURE" in tag
    assert sums.strip() in tag
