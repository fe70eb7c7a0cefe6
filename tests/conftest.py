"""Fixtures every room's tests share."""

import gc
import os
from pathlib import Path

import pytest
import tomli_w
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]

# A busy machine is no fault of the code (no deadline), and whether a change passes is not drawn by lot: each test tries
# the same examples every time. `make test-search` draws new ones.
settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, print_blob=True)
settings.load_profile("same")


def pytest_collection_finish():
    """What all modules made while they were imported stays: each later collection (statsmodels asks for many) skips it.

    A third of the time of `tests/server/evaluation` went into these.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _own_umask():
    """Apps and commands narrow their process's umask; a test starts with the usual one and leaves it as it was."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def flower_task():
    """Flower stamps every message with its process's task; outside a run there is none."""
    from flwr.supercore.task_identity import TaskIdentity

    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 0


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real images that never enter the repository; tests that need it skip, saying so, where it is absent."""
    folder = Path(os.environ.get("FEDBREAST_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real test data not found at {folder}: set FEDBREAST_TEST_DATA to run this test")
    return folder


@pytest.fixture(scope="session")
def phantom_root(tmp_path_factory):
    """Four small centres, made once for all test processes (the generator locks and resumes)."""
    from shared.phantom.generate import PhantomSettings, generate_federation

    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    root = shared / "toy-phantom"
    generate_federation(root, PhantomSettings(cases_per_site=5, cases_external=3), workers=1)
    return root


@pytest.fixture(scope="session")
def toy_cache(phantom_root):
    return phantom_root.parent / "toy-cache"


@pytest.fixture(scope="session")
def toy_config(phantom_root):
    """A toy federation's configuration, with sections changed."""

    def merged(**sections) -> dict:
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
        return raw

    return merged


@pytest.fixture
def project(tmp_path, toy_config, toy_cache, monkeypatch):
    """An empty project whose configuration `toy.toml` names the phantom; returns a function that changes it."""
    monkeypatch.setenv("FEDBREAST_ROOT", str(tmp_path))
    monkeypatch.setenv("FEDBREAST_CACHE", str(toy_cache))

    def write(**sections) -> Path:
        (tmp_path / "toy.toml").write_text(tomli_w.dumps(toy_config(**sections)))
        return tmp_path

    return write
