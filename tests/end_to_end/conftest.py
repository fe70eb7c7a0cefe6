"""A toy federation: four phantom centres, small networks, everything in one process."""

import csv
import os
import shutil
from pathlib import Path

import pytest
import tomli_w

from shared.phantom.generate import PhantomSettings, generate_federation


@pytest.fixture(scope="session")
def phantom_root(tmp_path_factory):
    """Four small centres, made once for all test processes (the generator locks and resumes)."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    root = shared / "toy-phantom"
    generate_federation(root, PhantomSettings(cases_per_site=5, cases_external=3), workers=1)
    return root


@pytest.fixture(scope="session")
def toy_cache(phantom_root):
    return phantom_root.parent / "toy-cache"


@pytest.fixture
def project(tmp_path, phantom_root, toy_cache, monkeypatch):
    """An empty project whose configuration `toy.toml` names the phantom; returns a function that changes it."""
    monkeypatch.setenv("FEDBREAST_ROOT", str(tmp_path))
    monkeypatch.setenv("FEDBREAST_CACHE", str(toy_cache))

    def write(**sections) -> Path:
        raw = {
            "name": "toy",
            "data": {
                "root": str(phantom_root),
                "sites": ["centre-a", "centre-b", "centre-c"],
                "external": "centre-d",
            },
            "splits": {"validation": 0.2, "test": 0.2},
            "preprocessing": {"max_voxels": 12000, "n4": False},
            "model": {"channels": [8, 8], "deep_supervision": 1},
            "training": {"steps_per_round": 2},
            "federation": {"rounds": 2, "round_timeout_s": 60},
            "evaluation": {"bootstrap": 100},
        }
        for name, values in sections.items():
            raw[name] = {**raw.get(name, {}), **values} if isinstance(values, dict) else values
        (tmp_path / "toy.toml").write_text(tomli_w.dumps(raw))
        return tmp_path

    return write


@pytest.fixture
def relabelled(tmp_path, phantom_root):
    """Copies of the sites whose tables a test may rewrite; images are linked."""

    def rewrite(site, change):
        root = tmp_path / "sites"
        if not root.exists():
            root.mkdir()
            for folder in phantom_root.iterdir():
                if folder.is_dir():
                    shutil.copytree(
                        folder, root / folder.name, copy_function=lambda a, b: (shutil.copy(a, b), b)[1], symlinks=True
                    )
        table = root / site / "cases.csv"
        with table.open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        rows = [row | change for row in rows]
        with table.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return root

    return rewrite
