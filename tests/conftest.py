"""Fixtures every room's tests share."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


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
